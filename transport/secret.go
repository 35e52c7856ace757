package transport

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// Header is a header of requests. Its value may be a secret: it is in no error and
// no message, and the type's text does not have it.
type Header struct {
	Name  string
	value []valuePart
}

// valuePart is a part of a header's value: text, or the name of a file that has it.
type valuePart struct{ text, file string }

// String returns the name.
func (h Header) String() string { return h.Name + "=..." }

// GoString returns the name.
func (h Header) GoString() string { return h.String() }

// ParseHeaders reads a list of headers: NAME=VALUE or NAME: VALUE, separated by
// commas. A value may have characters in percent encoding, such as %2C for a comma,
// and references: ${env:NAME} or ${NAME} is an environment variable, ${file:PATH}
// the content of a file without the newline at its end. Variables are read now,
// files for each request. No error has a value in it.
func ParseHeaders(list string, variable func(name string) (string, bool)) ([]Header, error) {
	var headers []Header
	n := 0
	for item := range strings.SplitSeq(list, ",") {
		n++
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		i := strings.IndexAny(item, "=:")
		if i < 0 {
			return nil, fmt.Errorf("header %d is not NAME=VALUE; a comma within a value is %%2C", n)
		}
		h := Header{Name: http.CanonicalHeaderKey(strings.TrimSpace(item[:i]))}
		if !httpguts.ValidHeaderFieldName(h.Name) {
			return nil, fmt.Errorf("header %d has no valid name; give NAME=VALUE, and %%2C for a comma within a value", n)
		}
		switch h.Name {
		case "Content-Length", "Transfer-Encoding", "Host", "Connection", "Content-Encoding":
			return nil, fmt.Errorf("header %s is not allowed; the program sets it", h.Name)
		}
		if slices.ContainsFunc(headers, func(o Header) bool { return o.Name == h.Name }) {
			return nil, fmt.Errorf("header %s is given twice; give it once", h.Name)
		}
		var err error
		if h.value, err = parseValue(strings.TrimSpace(item[i+1:]), variable); err != nil {
			return nil, fmt.Errorf("header %s: %w", h.Name, err)
		}
		headers = append(headers, h)
	}
	return headers, nil
}

var errReference = errors.New("a reference is not ${NAME}, ${env:NAME} or ${file:PATH}")

// parseValue divides a header's value at its references.
func parseValue(s string, variable func(string) (string, bool)) (parts []valuePart, err error) {
	for s != "" {
		text, rest, found := strings.Cut(s, "${")
		if text, err = url.PathUnescape(text); err != nil {
			return nil, errors.New("the value has a % that begins no percent encoding; write %25 for it")
		}
		parts = append(parts, valuePart{text: text})
		if !found {
			break
		}
		reference, after, closed := strings.Cut(rest, "}")
		if !closed {
			return nil, errReference
		}
		s = after
		kind, name, hasKind := strings.Cut(reference, ":")
		switch {
		case !hasKind:
			kind, name = "env", reference
		case kind != "env" && kind != "file":
			return nil, errReference
		}
		if name == "" {
			return nil, errReference
		}
		if kind == "file" {
			parts = append(parts, valuePart{file: name})
			continue
		}
		v, ok := variable(name)
		if !ok {
			return nil, fmt.Errorf("there is no environment variable %s", name)
		}
		parts = append(parts, valuePart{text: v})
	}
	for _, p := range parts {
		if !httpguts.ValidHeaderFieldValue(p.text) {
			return nil, errors.New("the value has a character that headers cannot have")
		}
	}
	return parts, nil
}

// get returns the value, and a [FileError] if a file cannot be used.
func (h *Header) get() (string, error) {
	var b strings.Builder
	for _, p := range h.value {
		if p.file == "" {
			b.WriteString(p.text)
			continue
		}
		content, err := os.ReadFile(p.file)
		if err != nil {
			return "", &FileError{p.file, fmt.Errorf("header %s: %w", h.Name, err)}
		}
		text := strings.TrimRight(string(content), "\r\n")
		if !httpguts.ValidHeaderFieldValue(text) {
			return "", &FileError{p.file, fmt.Errorf("header %s: %s has characters that headers cannot have", h.Name, p.file)}
		}
		b.WriteString(text)
	}
	return b.String(), nil
}

// secrets are what the program's messages must not have, though a server may repeat it
// from a request.
type secrets []string

// addHeader adds the value of a header, and what of it is secret by itself.
func (s *secrets) addHeader(value string) {
	s.add(value)
	if _, token, ok := strings.Cut(value, " "); ok { // Bearer, Basic
		s.add(token)
	}
}

// addURL adds user and password, and the values of the query. Values there that are too
// short to be secrets count only under a name that says so: all messages would be full
// of gaps otherwise.
func (s *secrets) addURL(u *url.URL) {
	if u.User != nil {
		password, _ := u.User.Password()
		s.add(u.User.Username())
		s.add(password)
		s.add(base64.StdEncoding.EncodeToString([]byte(u.User.Username() + ":" + password)))
	}
	const shortest = 4
	for pair := range strings.SplitSeq(u.RawQuery, "&") { // [url.ParseQuery] leaves some out
		name, v, _ := strings.Cut(pair, "=")
		if len(v) < shortest && !secretName.MatchString(name) {
			continue
		}
		s.add(v)
		if plain, err := url.QueryUnescape(v); err == nil {
			s.add(plain)
		}
	}
}

// secretName matches names of a query's values that are secrets.
var secretName = regexp.MustCompile(`(?i)pass|pwd|secret|token|key|auth|sig|cred|user|code`)

// add adds a secret, as it is and as it may be in a URL or in JSON.
func (s *secrets) add(v string) {
	if v == "" {
		return
	}
	text, _ := json.Marshal(v) // with & as \u0026
	quoted := strings.Trim(string(text), `"`)
	for _, form := range []string{v, url.QueryEscape(v), url.PathEscape(v), quoted, strings.ReplaceAll(quoted, "/", `\/`)} {
		if !slices.Contains(*s, form) {
			*s = append(*s, form)
		}
	}
}

// redact replaces what the destination's message repeats of the secrets. Those that are
// next to each other, or overlap, are one gap.
func (s secrets) redact(text string) string {
	hidden := make([]bool, len(text))
	for _, v := range s {
		for from := 0; ; {
			i := strings.Index(text[from:], v)
			if i < 0 {
				break
			}
			for k := range len(v) {
				hidden[from+i+k] = true
			}
			from += i + 1
		}
	}
	var b strings.Builder
	for i := range len(text) {
		switch {
		case !hidden[i]:
			b.WriteByte(text[i])
		case i == 0 || !hidden[i-1]:
			b.WriteString("...")
		}
	}
	return b.String()
}

// quoteAnswer returns the beginning of what a server says, as one line after a colon;
// nothing if it says nothing.
func quoteAnswer(text string) string {
	const most = 200
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "\uFFFD")), " ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "..."
	}
	if text == "" {
		return ""
	}
	return ": " + text
}
