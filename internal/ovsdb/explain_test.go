package ovsdb

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestExplained holds errors to one line that says what to do, whatever servers and files say.
func TestExplained(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\nno such thing")
			c.Close()
		}
	}()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	unix := Remote{"unix", filepath.Join(dir, "nobody")}
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"no socket":      {once(t, unix.String(), Keys{}, newRows()), "no such file or directory; is OVN's database server running"},
		"nobody":         {once(t, "tcp:"+closed.Addr().String(), Keys{}, newRows()), "connection refused; is OVN's database server running"},
		"HTTP":           {once(t, "tcp:"+l.Addr().String(), Keys{}, newRows()), "no database server of OVN answers there; give its socket or port"},
		"HTTP for TLS":   {once(t, "ssl:"+l.Addr().String(), anyKeys(t, dir), newRows()), "the port is not for TLS; give tcp:HOST:PORT"},
		"no right":       {explain(unix, false, &os.PathError{Op: "dial", Err: syscall.EACCES}), "run as root, or in the socket's group"},
		"no name":        {explain(unix, false, &net.DNSError{Err: "no such host", Name: "nb"}), "give a name that can be resolved"},
		"no answer":      {explain(unix, false, os.ErrDeadlineExceeded), "is there a firewall on the way?"},
		"server's lines": {explain(unix, true, fmt.Errorf("so\nit\u2028is\x00: %w", io.EOF)), "so it is : EOF; the server has ended the connection"},
		"file's lines":   {readText(t, `{"headings":["a\nb"],"data":[]}`), `but one with the columns a b; write it with "ovn-nbctl --format=json list ACL", and so on`},
		"long token":     {readText(t, `"`+strings.Repeat(`x\n`, 1000)+`"`), `where a table was expected; write it with`},
	} {
		t.Run(name, func(t *testing.T) {
			if c.err == nil {
				t.Fatal("no error")
			}
			text := c.err.Error()
			if !strings.Contains(text, c.want) || strings.ContainsAny(text, "\n\r\x00\u2028") || len(text) > 2*maxErrorText {
				t.Errorf("%q, not %q in one line", text, c.want)
			}
		})
	}
}

func anyKeys(t *testing.T, dir string) Keys {
	t.Helper()
	return Keys{CA: newAuthority(t, dir, "any").ca()}
}

// readText reads a file with a text.
func readText(t *testing.T, text string) error {
	t.Helper()
	file := filepath.Join(t.TempDir(), "nb.json")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := ReadFile(file, []Table{testTable}, newRows())
	return err
}
