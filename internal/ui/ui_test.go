package ui

import (
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strings"
	"testing"
)

func get(t *testing.T, method, target string, header http.Header) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	r.Header = header
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, r)
	return w.Result()
}

func TestHandler(t *testing.T) {
	for target, want := range map[string]string{
		"/":             "text/html; charset=utf-8",
		"/style.css":    "text/css; charset=utf-8",
		"/js/app.js":    "text/javascript; charset=utf-8",
		"/icon.svg":     "image/svg+xml",
		"/js/":          "",
		"/js/none.js":   "",
		"/../ui.go":     "",
		"/static/js":    "",
		"/api/v1/pairs": "",
	} {
		answer := get(t, http.MethodGet, target, nil)
		if want == "" {
			if answer.StatusCode != http.StatusNotFound {
				t.Errorf("%s: status %d", target, answer.StatusCode)
			}
			continue
		}
		if got := answer.Header.Get("Content-Type"); answer.StatusCode != http.StatusOK || got != want {
			t.Errorf("%s: status %d, type %q, want %q", target, answer.StatusCode, got, want)
		}
		tag := answer.Header.Get("Etag")
		again := get(t, http.MethodGet, target, http.Header{"If-None-Match": {tag}})
		if body, _ := io.ReadAll(again.Body); tag == "" || again.StatusCode != http.StatusNotModified || len(body) > 0 {
			t.Errorf("%s: with its tag %q status %d and %d bytes", target, tag, again.StatusCode, len(body))
		}
	}
	answer := get(t, http.MethodPost, "/", nil)
	if answer.StatusCode != http.StatusMethodNotAllowed || answer.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: status %d, Allow %q", answer.StatusCode, answer.Header.Get("Allow"))
	}
}

// maxLines is how much a Go developer is asked to read.
const maxLines = 2500

// Text from records must never become markup or code, and the policy of the server forbids
// styles and scripts that are not in files of their own.
var forbidden = map[string]*regexp.Regexp{
	".js":   regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|DOMParser|setHTML|srcdoc|\beval\b|new Function|setAttribute\("(?:style|on)|javascript:|import\(`),
	".html": regexp.MustCompile(`(?i)\sstyle=|<style|\son\w+=|<script(?:[^>]*[^>c])?>[^<]|javascript:`),
	".css":  regexp.MustCompile(`@import|url\(`),
	".svg":  regexp.MustCompile(`(?i)<script|\son\w+=|href`),
}

// TestFiles checks what the policy of the page and its promises ask of the files.
func TestFiles(t *testing.T) {
	other := regexp.MustCompile(`(?:https?:)?//[a-z0-9-]+\.[a-z]`)
	imported := regexp.MustCompile(`from "\./([a-z]+\.js)"`)
	served, lines := read(), 0
	for name, f := range served {
		text := string(f.content)
		lines += strings.Count(text, "\n")
		rule := forbidden[path.Ext(name)]
		if rule == nil || f.contentType == "" {
			t.Errorf("%s: files of this kind are not known", name)
			continue
		}
		if bad := rule.FindString(text); bad != "" {
			t.Errorf("%s has %q", name, bad)
		}
		if bad := other.FindString(strings.ReplaceAll(text, "http://www.w3.org/2000/svg", "")); bad != "" {
			t.Errorf("%s names another host: %q", name, bad)
		}
		for _, match := range imported.FindAllStringSubmatch(text, -1) {
			if _, ok := served["js/"+match[1]]; !ok {
				t.Errorf("%s imports %s, which is not there", name, match[1])
			}
		}
		if path.Ext(name) == ".js" && !strings.HasPrefix(text, "// ") {
			t.Errorf("%s does not say what it is for", name)
		}
	}
	if lines > maxLines {
		t.Errorf("the page has %d lines, at most %d may be", lines, maxLines)
	}
}

// TestForbidden checks that the rules see what they are for.
func TestForbidden(t *testing.T) {
	for text, extension := range map[string]string{
		`e.innerHTML = name`: ".js", `e.setAttribute("onclick", x)`: ".js", `new Function(x)`: ".js",
		`<p style="color:red">`: ".html", `<p onclick="x()">`: ".html", `<script>x()</script>`: ".html", `<style>`: ".html",
		`@import "x"`: ".css", `url(//h.example)`: ".css", `<a href="x">`: ".svg",
	} {
		if !forbidden[extension].MatchString(text) {
			t.Errorf("%s: %s is not seen", extension, text)
		}
	}
}
