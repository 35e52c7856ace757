package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/netobserv/goflow2-kube-enricher/test/e2e/harness"
	"github.com/netobserv/goflow2-kube-enricher/test/e2e/lab"
	"github.com/netobserv/goflow2-kube-enricher/test/e2e/proc"
)

const (
	imageName    = "localhost/kube-enricher"
	imageVersion = "v0.0.0-test"
	imageLimit   = 60e6 // bytes
	baseImage    = "localhost/kube-enricher-base"
	nonRoot      = "65532"
)

// oci has images and containers of its own, in a directory of one test.
type oci struct {
	dir string
	env []string
}

// newOCI skips the test where images cannot be built or run.
func newOCI(t *testing.T) *oci {
	t.Helper()
	for _, tool := range []string{"buildah", "podman", "runc", "busybox", "make", "unshare", "nsenter", "bash"} {
		lab.NeedsProgram(t, tool)
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root, to build and run images")
	}
	var err error
	o := &oci{}
	if o.dir, err = os.MkdirTemp("", "e2e-image-"); err != nil {
		t.Fatal(err)
	}
	// Variables that were given to make are not for this make.
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		switch name {
		case "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "IMAGE", "VERSION", "ENGINE", "PLATFORMS", "IMAGE_FLAGS", "SOURCE_DATE_EPOCH", "GOPROXY":
		default:
			o.env = append(o.env, v)
		}
	}
	o.env = append(o.env, "CGO_ENABLED=0", "GOFLAGS=-trimpath",
		"CONTAINERS_STORAGE_CONF="+filepath.Join(o.dir, "storage.conf"), "BUILDAH_ISOLATION=chroot")
	t.Cleanup(func() {
		for _, args := range [][]string{{"buildah", "rm", "--all"}, {"podman", "rm", "--all", "--force"}} {
			if _, err := o.output(context.Background(), args...); err != nil {
				t.Error(err)
			}
		}
		_ = exec.Command("umount", filepath.Join(o.dir, "graph", "overlay")).Run() // there is none with vfs
		if err := os.RemoveAll(o.dir); err != nil {
			t.Error(err)
		}
	})
	for _, driver := range []string{"overlay", "vfs"} {
		config := fmt.Sprintf("[storage]\ndriver = %q\ngraphroot = %q\nrunroot = %q\n",
			driver, filepath.Join(o.dir, "graph"), filepath.Join(o.dir, "run"))
		if err := os.WriteFile(filepath.Join(o.dir, "storage.conf"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err = o.output(t.Context(), "buildah", "info"); err == nil {
			return o
		}
	}
	t.Skip("needs storage for images: ", err)
	return nil
}

// output runs a command in the project's directory.
func (o *oci) output(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir, cmd.Env = root, o.env
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, stderr.Bytes()[max(0, stderr.Len()-2000):])
	}
	return strings.TrimSpace(string(out)), nil
}

func (o *oci) must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := o.output(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// container is podman's command line for a container of the image that may do
// as little as can be: no root, nothing to write to, no capability.
func (o *oci) container(t *testing.T, name, image string, options, args []string) *exec.Cmd {
	t.Helper()
	t.Cleanup(func() {
		if _, err := o.output(context.Background(), "podman", "rm", "--force", "--ignore", name); err != nil {
			t.Error(err)
		}
	})
	args = slices.Concat([]string{
		"--runtime", "runc", "--cgroup-manager", "cgroupfs", "run", "--rm", "--name", name,
		"--read-only", "--read-only-tmpfs=false", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
		// What a runtime in a container may have to do with.
		"--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096",
	}, options, []string{image}, args)
	cmd := exec.Command("podman", args...)
	cmd.Env = o.env
	return cmd
}

// build runs make's targets of images where no network can be reached, with
// the module and build caches of this machine, and returns the commands that
// make printed.
func (o *oci) build(t *testing.T, targets []string, variables ...string) []string {
	t.Helper()
	args := slices.Concat([]string{"unshare", "--net", "make", "--no-print-directory"}, targets,
		[]string{"ENGINE=buildah", "VERSION=" + imageVersion, "GO_IMAGE=" + baseImage, "SHELL_IMAGE=" + baseImage}, variables)
	var commands []string
	for line := range strings.SplitSeq(o.must(t, args...), "\n") {
		if strings.HasPrefix(line, "buildah build ") {
			commands = append(commands, line)
		}
	}
	if len(commands) != len(targets) {
		t.Fatalf("make printed %d commands for %v: %q", len(commands), targets, commands)
	}
	return commands
}

// The images are built by what `make image` prints, without a network; they
// run without any right, and name flows by a real API server.
func TestImage(t *testing.T) {
	t.Parallel()
	o := newOCI(t)
	o.must(t, "sh", "test/image/base.sh", baseImage)
	caches := strings.Fields(o.must(t, "go", "env", "GOMODCACHE", "GOCACHE"))
	flags := fmt.Sprintf("-v %s:/go/pkg/mod:ro -v %s:/root/.cache/go-build", caches[0], caches[1])

	targets := []string{"image", "image-pipe"}
	commands := o.build(t, targets, "IMAGE="+imageName, "IMAGE_FLAGS="+flags)
	// But for the variables they are what anybody gets.
	usual := strings.Split(o.must(t, "make", "--no-print-directory", "-n", "image", "image-pipe", "ENGINE=buildah", "VERSION="+imageVersion), "\n")
	for i, c := range commands {
		for _, extra := range []string{flags, "--build-arg GO_IMAGE=" + baseImage, "--build-arg SHELL_IMAGE=" + baseImage} {
			c = strings.Replace(c, extra+" ", "", 1)
		}
		c = strings.Replace(c, imageName, "quay.io/netobserv/goflow2-kube", 1)
		if c != usual[i] {
			t.Errorf("it was built by\n%s\nand make image is\n%s", c, usual[i])
		}
	}

	image := imageName + ":" + imageVersion
	t.Run("Contents", func(t *testing.T) { o.checkContents(t, image) })
	t.Run("Reproducible", func(t *testing.T) {
		o.build(t, []string{"image"}, "IMAGE="+imageName+"-again", "IMAGE_FLAGS=--no-cache "+flags)
		const id = "{{.Id}} {{.RootFS.Layers}}"
		first := o.must(t, "podman", "image", "inspect", "--format", id, image)
		if again := o.must(t, "podman", "image", "inspect", "--format", id, imageName+"-again:"+imageVersion); again != first {
			t.Errorf("the same source gave the images\n%s\n%s", first, again)
		}
	})
	t.Run("Collect", func(t *testing.T) { o.collect(t, image) })
	t.Run("Capture", func(t *testing.T) { o.capture(t, image) })
	t.Run("Pipe", func(t *testing.T) { o.pipe(t, image+"-pipe") })
}

// checkContents checks what is in the image and what is said about it.
func (o *oci) checkContents(t *testing.T, image string) {
	t.Helper()
	type inspected struct {
		Size   int64
		Os     string
		Config struct {
			User         string
			Entrypoint   []string
			ExposedPorts map[string]struct{}
			Labels       map[string]string
		}
	}
	inspect := func(image string) inspected {
		var found []inspected
		if err := json.Unmarshal([]byte(o.must(t, "podman", "image", "inspect", image)), &found); err != nil || len(found) != 1 {
			t.Fatalf("%d images %s, %v", len(found), image, err)
		}
		return found[0]
	}
	for _, image := range []string{image, image + "-pipe"} {
		i := inspect(image)
		t.Logf("%s: %.1f MB", image, float64(i.Size)/1e6)
		if i.Size > imageLimit {
			t.Errorf("%s has %d bytes, more than %.0f", image, i.Size, imageLimit)
		}
		if i.Os != "linux" || i.Config.User != nonRoot+":"+nonRoot || len(i.Config.ExposedPorts) != 3 {
			t.Errorf("%s: %+v", image, i)
		}
		for _, port := range []string{"2055/udp", "6343/udp", "8080/tcp"} {
			if _, ok := i.Config.ExposedPorts[port]; !ok {
				t.Errorf("%s: port %s is missing: %v", image, port, i.Config.ExposedPorts)
			}
		}
		for _, label := range []string{"title", "description", "url", "source", "licenses", "version", "revision", "created"} {
			value := i.Config.Labels["org.opencontainers.image."+label]
			if value == "" || label == "version" && value != imageVersion || strings.HasPrefix(value, "1970") || strings.Contains(value, "$") {
				t.Errorf("%s: label %s is %q", image, label, value)
			}
		}
	}
	if got := inspect(image).Config.Entrypoint; !slices.Equal(got, []string{"/kube-enricher"}) {
		t.Errorf("entry point %q", got)
	}

	// The program is the one that the same source gives elsewhere.
	here, there := filepath.Join(t.TempDir(), "here"), filepath.Join(t.TempDir(), "there")
	o.must(t, "go", "build", "-buildvcs=false", "-ldflags", "-s -w -X main.version="+imageVersion, "-o", here, "./cmd/kube-enricher")
	id := o.must(t, "podman", "create", image)
	o.must(t, "podman", "cp", id+":/kube-enricher", there)
	o.must(t, "podman", "cp", id+":/etc/ssl/certs/ca-certificates.crt", filepath.Join(t.TempDir(), "ca.crt"))
	a, err1 := os.ReadFile(here)
	b, err2 := os.ReadFile(there)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Errorf("the program in the image (%d bytes) is not what go build makes of this source (%d bytes)", len(b), len(a))
	}

	out, err := o.container(t, "e2e-version", image, []string{"--network", "none"}, []string{"-v"}).Output()
	if want := "kube-enricher " + imageVersion + "\n"; err != nil || !strings.HasPrefix(string(out), want) {
		t.Errorf("-v: %q, %v", out, err)
	}
}

// mounts are the options of a container that give it a kubeconfig for the
// example's service account at /kubeconfig.
func (o *oci) mounts(t *testing.T) []string {
	t.Helper()
	file := kubeconfig(t, metav1.NamespaceDefault, account)
	if err := os.Chmod(file, 0o644); err != nil { // its owner is not the user in the container
		t.Fatal(err)
	}
	ca := kube.CertificateFile()
	return []string{"--network", "host", "-v", file + ":/kubeconfig:ro", "-v", ca + ":" + ca + ":ro"}
}

// collect sends flows to a container.
func (o *oci) collect(t *testing.T, image string) {
	t.Helper()
	const name = "e2e-collect"
	e := startAs(t, func(t *testing.T, args ...string) *exec.Cmd {
		return o.container(t, name, image, o.mounts(t), args)
	}, "-kubeconfig", "/kubeconfig")
	e.waitReady(t)

	pid := o.must(t, "podman", "inspect", "--format", "{{.State.Pid}}", name)
	status, err1 := os.ReadFile("/proc/" + pid + "/status")
	mounts, err2 := os.ReadFile("/proc/" + pid + "/mountinfo")
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	const none = "\t0000000000000000\n"
	id := strings.Repeat("\t"+nonRoot, 4) + "\n"
	for _, want := range []string{"Uid:" + id, "Gid:" + id, "CapEff:" + none, "CapPrm:" + none, "CapBnd:" + none, "NoNewPrivs:\t1\n"} {
		if !strings.Contains(string(status), want) {
			t.Errorf("no %q in the status of the process:\n%s", want, status)
		}
	}
	readOnly := false
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		readOnly = readOnly || f[4] == "/" && slices.Contains(strings.Split(f[5], ","), "ro")
	}
	if !readOnly {
		t.Errorf("the root file system is not read-only:\n%s", mounts)
	}

	checkNames(t, e, expected)
	checkLedger(t, e, -1)
	e.terminate(t)
	for _, l := range e.complaints() {
		if !strings.Contains(l.Msg, "receive buffer") { // as the machine's net.core.rmem_max will have it
			t.Errorf("the program complained: %v", l)
		}
	}
}

// capture has a container read a capture and compares its records with those
// of the program outside.
func (o *oci) capture(t *testing.T, image string) {
	t.Helper()
	// In the capture 10.244.0.5 talks a lot.
	ns := testNamespace(t)
	p := createPod(t, pod{
		namespace: ns, name: "captured", ips: []netip.Addr{netip.MustParseAddr("10.244.0.5")},
		since: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC),
	})
	capture, err := filepath.Abs(filepath.Join(root, "testdata/captures/ovs-ipfix.pcap"))
	if err != nil {
		t.Fatal(err)
	}
	outside := command(t, "-kubeconfig", kubeconfig(t, metav1.NamespaceDefault, account), capture)
	inside := o.container(t, "e2e-capture", image, append(o.mounts(t), "-v", capture+":/flows.pcap:ro"),
		[]string{"-kubeconfig", "/kubeconfig", "/flows.pcap"})
	var records [2]string
	for i, cmd := range []*exec.Cmd{outside, inside} {
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v\n%s", cmd, err, &stderr)
		}
		records[i] = string(out)
	}
	if records[0] != records[1] {
		t.Errorf("records of the container:\n%.2000s\nof the program outside:\n%.2000s", records[1], records[0])
	}
	if want := fmt.Sprintf(`"SrcNamespace":%q,"SrcNet":0,"SrcPod":%q`, ns, p.name); !strings.Contains(records[1], want) {
		t.Errorf("no %s in %.2000s", want, records[1])
	}
}

// pipe runs the command of old manifests, in a network of its own, because it
// names no port.
func (o *oci) pipe(t *testing.T, image string) {
	t.Helper()
	const name = "e2e-pipe"
	snapshot, err := filepath.Abs(filepath.Join(root, "examples/demo/snapshot.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := o.container(t, name, image,
		[]string{"--network", "none", "-v", snapshot + ":/snapshot.yaml:ro", "-e", "KUBE_ENRICHER_KUBE_SNAPSHOT=/snapshot.yaml"},
		[]string{"/bin/sh", "-c", `/goflow2 -loglevel "trace" | /kube-enricher -loglevel "trace"`})
	lines := make(chan string, 1000)
	var stderr bytes.Buffer
	cmd.Stdout = &lineWriter{mu: new(sync.Mutex), line: func(line []byte) {
		select {
		case lines <- string(line):
		default:
		}
	}}
	cmd.Stderr = &stderr
	p, err := proc.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	var pid string
	harness.Eventually(t, soon, "container "+name, func() (bool, any) {
		if !p.Running() {
			t.Fatalf("%v\n%s", p.Err(), &stderr)
		}
		pid, err = o.output(t.Context(), "podman", "inspect", "--format", "{{.State.Pid}}", name)
		return err == nil && pid != "0", err
	})

	datagram := ipfixDatagram(t)
	harness.Eventually(t, soon, "record of the pipe", func() (bool, any) {
		send := exec.CommandContext(t.Context(), "nsenter", "--net", "--target", pid, "bash", "-c", "cat > /dev/udp/127.0.0.1/2055")
		send.Stdin = bytes.NewReader(datagram)
		if out, err := send.CombinedOutput(); err != nil {
			return false, fmt.Sprintf("%v: %s", err, out) // not listening yet
		}
		select {
		case line := <-lines:
			var r record
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			if r["src_pod"] != "frontend-6c8b9f7d54-x2x7k" || r["src_workload"] != "frontend" || r["type"] != "IPFIX" {
				t.Errorf("record of the pipe: %s", line)
			}
			return true, nil
		case <-time.After(100 * time.Millisecond):
			return false, "nothing came out"
		}
	})
	o.must(t, "podman", "kill", name)
	<-p.Done()
	for _, want := range []string{"starting GoFlow2", "standard input"} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("no %q in what they said:\n%s", want, &stderr)
		}
	}
}

// ipfixDatagram is a message with a flow of a pod in examples/demo/snapshot.yaml.
func ipfixDatagram(t *testing.T) []byte {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	x := dial(t, conn.LocalAddr().String())
	e := &enricher{}
	if err := x.IPFIX(e.flow(netip.MustParseAddr("10.244.0.5"), nobody)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1<<16)
	n, err := conn.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}
