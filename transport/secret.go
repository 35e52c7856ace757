package transport

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
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

// redact replaces secrets in a message of the destination's, which may have them
// from the request.
func redact(text string, secrets []string) string {
	for _, s := range secrets {
		if len(s) >= 4 {
			text = strings.ReplaceAll(text, s, "...")
		}
	}
	return text
}

// appendSecret appends the value of a header, and what of it is secret by itself.
func appendSecret(secrets []string, value string) []string {
	secrets = append(secrets, value)
	if _, token, ok := strings.Cut(value, " "); ok { // Bearer, Basic
		secrets = append(secrets, token)
	}
	return secrets
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
