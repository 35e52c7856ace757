// Package ui has the page that shows who talks to whom: static files, which ask the API
// under /api/v1 for all that they show. They are plain HTML, CSS and modules of
// JavaScript, as the browser loads them; nothing builds them.
//
// Names and addresses in records come from whoever can send a datagram. So the scripts only
// ever set them as text, and the policy of the server that mounts the page lets nothing run
// that is not in these files.
package ui

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed static
var files embed.FS

// file is one of the page's files, as it is served.
type file struct {
	content     []byte
	contentType string
	tag         string // RFC 9110, section 8.8.3, in its quotes
}

// contentTypes has the types by extension. Those of package mime depend on the machine.
var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// Handler serves the page at / and its files below. Browsers ask each time whether a file has
// changed, so that a page and its scripts are never of two versions.
func Handler() http.Handler {
	served := read()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/")
		if name == "" {
			name = "index.html"
		}
		f, ok := served[name]
		if !ok {
			http.NotFound(w, r)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "the page can only be read", http.StatusMethodNotAllowed)
			return
		}
		h := w.Header()
		h.Set("Content-Type", f.contentType)
		h.Set("Cache-Control", "no-cache")
		h.Set("Etag", f.tag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.content))
	})
}

// read returns the files by their path below /. That they can be read was settled when the
// program was built.
func read() map[string]file {
	served := make(map[string]file)
	err := fs.WalkDir(files, "static", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(content)
		served[strings.TrimPrefix(name, "static/")] = file{
			content: content, contentType: contentTypes[path.Ext(name)], tag: `"` + hex.EncodeToString(sum[:16]) + `"`,
		}
		return nil
	})
	if err != nil {
		panic("ui: the embedded files cannot be read: " + err.Error())
	}
	return served
}
