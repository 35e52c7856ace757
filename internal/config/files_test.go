package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestSameFile gives a file that is written to a second flag, under each kind of name that
// it can have.
func TestSameFile(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{
		os.MkdirAll("sub/deep", 0o700), os.Symlink("sub", "link"),
		os.WriteFile("there", []byte("transport: file,kafka\n"), 0o600), os.WriteFile("other", nil, 0o600),
		os.Link("there", "hard"), os.Symlink("there", "soft"), os.Symlink(in("soft"), "sub/deep/softer"),
		os.Symlink("sub/missing", "dangling"), os.Symlink("loop", "loop"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	names := []struct {
		a, b string
		same bool
	}{
		{"there", "there", true},
		{"there", "./sub/../there", true},
		{"there", in("there"), true},
		{"there", "soft", true},
		{"there", "hard", true},
		{"soft", "hard", true},
		{"there", "link/deep/softer", true},
		{"new", "./new", true},
		{"new", in("new"), true},
		{"sub/new", "link/new", true},
		{"sub/missing", "dangling", true},
		{in("sub/missing"), "link/missing", true},
		{"sub/none/new", "link/none/new", true},
		{"loop", "loop", true},
		{"there", "other", false},
		{"there", "sub/there", false},
		{"new", "sub/new", false},
		{"new", "newer", false},
		{"loop", "there", false},
		{"/dev/null", "/dev/null", false},
	}
	for _, tc := range names {
		for _, pair := range [][2]string{{tc.a, tc.b}, {tc.b, tc.a}} {
			_, err := Parse([]string{"-kube.off", "-templates.file", pair[0], "-transport.file", pair[1]}, nil, false)
			usage := (*UsageError)(nil)
			if errors.As(err, &usage) != tc.same || tc.same && !strings.HasPrefix(err.Error(), "-templates.file: ") {
				t.Errorf("%q: %v", pair, err)
			}
		}
	}
	// Each flag with a file, also those that are still to come.
	p := parser{options: options(outputTypes())}
	flags := 0
	for _, o := range p.options {
		if !strings.HasPrefix(o.arg, "FILE") {
			continue
		}
		flags++
		for _, written := range []string{"templates.file", "transport.file"} {
			if o.name == written {
				continue
			}
			args := []string{"-transport", "file,kafka", "-" + written, "soft", "-" + o.name, "there"}
			if strings.HasPrefix(o.name, "transport.kafka.tls") {
				args = append(args, "-transport.kafka.tls")
			}
			if strings.HasPrefix(o.name, httpFlags) {
				args[1] += ",http"
				args = append(args, "-transport.http.url", "https://h/")
			}
			if strings.HasPrefix(o.name, otlpFlags) {
				args[1] += ",otlp"
				args = append(args, "-transport.otlp.tls")
			}
			for _, pair := range [][2]string{{"otlp.tls.cert", "otlp.tls.key"}, {"otlp.tls.key", "otlp.tls.cert"}, {"kafka.tls.client", "kafka.tls.key"}, {"kafka.tls.key", "kafka.tls.client"}, {"http.tls.cert", "http.tls.key"}, {"http.tls.key", "http.tls.cert"}} {
				if o.name == "transport."+pair[0] {
					args = append(args, "-transport."+pair[1], "other")
				}
			}
			if !slices.Contains([]string{"kubeconfig", "kube.snapshot"}, o.name) {
				args = append(args, "-kube.off")
			}
			_, err := Parse(args, nil, false)
			if usage := (*UsageError)(nil); !errors.As(err, &usage) || !strings.Contains(err.Error(), "give another file") || !strings.Contains(err.Error(), "-"+o.name) || !strings.Contains(err.Error(), "-"+written) {
				t.Errorf("%q: %v", args, err)
			}
		}
	}
	if flags < 8 {
		t.Errorf("only %d flags with a file", flags)
	}
	// Files without a flag.
	if _, err := Parse([]string{"-templates.file", "there"}, []string{"KUBECONFIG=other" + string(os.PathListSeparator) + "soft"}, false); err == nil || !strings.Contains(err.Error(), "KUBECONFIG") {
		t.Error(err)
	}
	if _, err := Parse([]string{"-transport.file", "sub/.kube/config"}, []string{"HOME=" + in("link")}, false); err == nil || !strings.Contains(err.Error(), "usual configuration") {
		t.Error(err)
	}
	if _, err := Parse([]string{"-kube.off", "-templates.file", "there"}, []string{"KUBECONFIG=soft"}, false); err != nil {
		t.Error(err) // is not read
	}
	if _, err := Parse([]string{"-kube.off", "-templates.file", "a.pcap", "b.pcap", "./a.pcap"}, nil, false); err == nil || !strings.Contains(err.Error(), "FILE") {
		t.Error(err)
	}
}
