package main

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/internal/needs"
)

// memoryGroup makes a cgroup with a memory limit, of either version of cgroups.
func memoryGroup(t *testing.T, limit int) (dir string) {
	t.Helper()
	var err error
	for _, version := range []struct{ root, file string }{
		{"/sys/fs/cgroup", "memory.max"},                   // version 2
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"}, // version 1
	} {
		dir = filepath.Join(version.root, "kube-enricher-test-"+strconv.Itoa(os.Getpid()))
		if err = os.Mkdir(dir, 0o755); err != nil {
			continue
		}
		// No file is made where cgroups are not mounted.
		var f *os.File
		if f, err = os.OpenFile(filepath.Join(dir, version.file), os.O_WRONLY, 0); err == nil {
			_, err = f.WriteString(strconv.Itoa(limit))
			_ = f.Close()
		}
		if err == nil {
			t.Cleanup(func() { _ = os.Remove(dir) })
			return dir
		}
		_ = os.Remove(dir)
	}
	needs.OK(t, "a memory cgroup of its own", err)
	return ""
}

// TestMemoryLimit starts the program in a cgroup with a memory limit, as a container has,
// and asks it for Go's limit.
func TestMemoryLimit(t *testing.T) {
	const limit = 512 << 20
	group := memoryGroup(t, limit)
	for _, tc := range []struct {
		env  string
		want float64
	}{
		{"", limit * 9 / 10},
		{"GOMEMLIMIT=100MiB", 100 << 20},
	} {
		addr := freeAddr(t)
		program := command(t, "-listen", "flow://"+freeAddr(t), "-addr", addr, "-kube.off")
		// A shell enters the group and becomes the program.
		cmd := exec.CommandContext(t.Context(), "/bin/sh", append([]string{"-c", `echo $$ > "$0" && exec "$@"`, filepath.Join(group, "cgroup.procs"), program.Path}, program.Args[1:]...)...)
		cmd.Env = append(program.Env, tc.env)
		p := startCommand(t, cmd, nil, nil)
		var text string
		p.eventually("metrics", func() (ok bool) {
			var code int
			text, code = get(t, "http://"+addr+"/metrics")
			return code == http.StatusOK
		})
		if got := metric(text, "go_gc_gomemlimit_bytes", ""); got < tc.want-4096 || got > tc.want {
			t.Errorf("%s: Go's limit is %.0f bytes, want %.0f", tc.env, got, tc.want)
		}
		p.signal(syscall.SIGTERM)
		if code := p.wait(); code != exitDone {
			t.Errorf("exit code %d: %s", code, p.stderr())
		}
	}
}
