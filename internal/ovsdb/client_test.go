package ovsdb

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// script is a server that answers calls by their method, and may say more.
type script struct {
	answers map[string]string // with ID in place of the id
	then    string            // after the answer to monitor_cond
	said    chan map[string]json.RawMessage
}

// serve answers until the connection ends.
func (s *script) serve(conn net.Conn) {
	d := json.NewDecoder(conn)
	for {
		var m map[string]json.RawMessage
		if d.Decode(&m) != nil {
			return
		}
		var method string
		_ = json.Unmarshal(m["method"], &method)
		if answer, ok := s.answers[method]; ok {
			_, _ = io.WriteString(conn, strings.ReplaceAll(answer, "ID", string(m["id"])))
		} else if s.said != nil {
			s.said <- m
		}
		if method == "monitor_cond" {
			_, _ = io.WriteString(conn, s.then)
		}
	}
}

const schemaAnswer = `{"id":ID,"error":null,"result":{"name":"OVN_Northbound","tables":{"ACL":{"columns":{"external_ids":{},"name":{}}}}}}`

// follow runs a client against a script until the connection ends.
func (s *script) follow(t *testing.T, r Receiver) error {
	t.Helper()
	client, server := net.Pipe()
	go func() { defer server.Close(); s.serve(server) }()
	c := &session{cfg: &Config{Database: "OVN_Northbound", Tables: []Table{testTable}, Malformed: func(error) {}}, conn: client, to: r}
	c.in = newDecoder(c)
	defer client.Close()
	if err := c.run(); err != nil {
		return err
	}
	return c.watch()
}

const anID = "01020304-0506-0708-090a-0b0c0d0e0f10"

// TestOrderOfMembers has messages whose members come in any order, as RFC 8259 allows, an
// echo between them, and calls that are not known (RFC 7047, sections 4.1.6 and 4.1.11).
func TestOrderOfMembers(t *testing.T) {
	s := &script{answers: map[string]string{
		"get_schema":   schemaAnswer,
		"monitor_cond": `{"result":{"ACL":{"` + anID + `":{"initial":{"name":"a"}}}},"error":null,"id":ID}`,
	}, said: make(chan map[string]json.RawMessage, 1), then: `
		{"params":["x",[1,{"y":2}]],"id":"probe","method":"echo"}
		{"id":null,"method":"locked","params":["lock"]}
		{"params":["kube-enricher",{"ACL":{"` + anID + `":{"modify":{"name":["set",["b"]]}}}}],"method":"update2","id":null}
		{"method":"update2","params":["other",{"ACL":{"` + anID + `":{"delete":null}}}],"id":null}
		[]`}
	r := newRows()
	err := s.follow(t, r)
	if err == nil || !strings.Contains(err.Error(), "was expected") {
		t.Errorf("an array for a message: %v", err)
	}
	if got := r.text(); got != "01020304 b " {
		t.Errorf("rows: %q", got)
	}
	if r.ends != 2 {
		t.Errorf("%d ends, not one for the view and one for the update", r.ends)
	}
	reply := <-s.said
	if string(reply["id"]) != `"probe"` || string(reply["result"]) != `["x",[1,{"y":2}]]` || string(reply["error"]) != "null" {
		t.Errorf("the answer to an echo: %s", reply)
	}
}

// TestBrokenView has answers that break off or are wrong: nothing ends, so that nobody takes
// rows that were not handed over for deleted.
func TestBrokenView(t *testing.T) {
	long := strings.Repeat("x", 2*maxValue)
	for name, c := range map[string]struct{ schema, view, want string }{
		"garbage":         {"\x00\x01\x02 HTTP/1.1 400", "", "invalid character"},
		"an error":        {`{"id":ID,"error":{"error":"syntax error","details":"no such thing"},"result":null}`, "", "syntax error: no such thing"},
		"no tables":       {`{"id":ID,"error":null,"result":{"tables":{"Bridge":{"columns":{}}}}}`, "", "has none of the tables ACL"},
		"view refused":    {schemaAnswer, `{"id":ID,"result":null,"error":"unknown method"}`, "unknown method"},
		"view of numbers": {schemaAnswer, `{"id":ID,"result":7,"error":null}`, "where tables were expected"},
		"wrong UUID":      {schemaAnswer, `{"id":ID,"result":{"ACL":{"x":{"initial":{}}}},"error":null}`, "is no UUID"},
		"wrong change":    {schemaAnswer, `{"id":ID,"result":{"ACL":{"` + anID + `":{"new":{}}}},"error":null}`, "unknown change"},
		"long row":        {schemaAnswer, `{"id":ID,"result":{"ACL":{"` + anID + `":{"initial":{"name":"` + long + `"}}}},"error":null}`, "more than 4 MiB"},
		"long key":        {schemaAnswer, `{"id":ID,"result":{"` + long + `":{}},"error":null}`, "more than 4 MiB"},
		"cut":             {schemaAnswer, `{"id":ID,"result":{"ACL":{"` + anID + `":{"initial":{"na]`, "silent for 1m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRows()
				err := (&script{answers: map[string]string{"get_schema": c.schema, "monitor_cond": c.view, "list_dbs": `{"id":ID,"error":null,"result":["OVN_Northbound"]}`}}).follow(t, r)
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, not %q", err, c.want)
				}
				if r.ends != 0 {
					t.Error("a view that is not whole has ended")
				}
			})
		})
	}
}

// TestLost has connections that end after ten minutes and a little: in order, within a message,
// and by silence. What was right is known up to the last whole message, or to the end in order.
func TestLost(t *testing.T) {
	const echo = `{"id":"echo","method":"echo","params":[]}`
	const half = `{"id":null,"method":"update2","params":["kube-enricher",{"ACL":{"` + anID + `":{"del`
	const every, little, times = 20 * time.Second, 10 * time.Second, 30
	for name, c := range map[string]struct {
		end  func(server net.Conn)
		want time.Duration
	}{
		"in order":    {func(c net.Conn) { c.Close() }, times*every + little},
		"in the half": {func(c net.Conn) { _, _ = io.WriteString(c, half); c.Close() }, times * every},
		"in members":  {func(c net.Conn) { _, _ = io.WriteString(c, `{"id":null,`); c.Close() }, times * every},
		"by silence":  {func(net.Conn) {}, times * every},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				client, server := net.Pipe()
				go func() { _, _ = io.Copy(io.Discard, server) }()
				go func() {
					for range times {
						time.Sleep(every)
						_, _ = io.WriteString(server, echo)
					}
					time.Sleep(little)
					c.end(server)
				}()
				r := newRows()
				s := &session{cfg: &Config{}, conn: client, to: r}
				s.in = newDecoder(s)
				err := s.watch()
				if err == nil || r.lost.Sub(start) != c.want {
					t.Errorf("right until %v, not %v (%v)", r.lost.Sub(start), c.want, err)
				}
				server.Close()
			})
		})
	}
}

// TestUUIDs reads UUIDs as RFC 7047 writes them, and refuses what has as many characters.
func TestUUIDs(t *testing.T) {
	for text, ok := range map[string]bool{
		anID:                                   true,
		strings.ToUpper(anID):                  true,
		strings.Repeat("0", 36):                false,
		"0102030-405060708-090a-0b0c-0d0e0f10": false,
		"0102030405060708090a0b0c0d0e0f10----": false,
		"01020304-0506-0708-090a-0b0c0d0e0f1g": false,
		"0102-0304-0506-0708-090a0b0c0d0e0f10": false,
		anID[:35]:                              false, "": false,
	} {
		id, err := ParseUUID(text)
		if (err == nil) != ok || (id != UUID{}) != ok {
			t.Errorf("%q: %x, %v", text, id, err)
		}
	}
}

// TestRemotes reads remotes as ovsdb(7) has them.
func TestRemotes(t *testing.T) {
	for text, want := range map[string][]Remote{
		"unix:/run/ovn/ovnnb_db.sock":       {{"unix", "/run/ovn/ovnnb_db.sock"}},
		"tcp:10.0.0.1:6641":                 {{"tcp", "10.0.0.1:6641"}},
		"ssl:[fd00::1]:6641,ssl:nb.ovn:641": {{"ssl", "[fd00::1]:6641"}, {"ssl", "nb.ovn:641"}},
		"unix:":                             nil, "tcp:10.0.0.1": nil, "tcp::6641": nil, "ssl:fd00::1:6641": nil, "http://x": nil, "tcp:a:1,": nil,
	} {
		got, err := ParseRemotes(text)
		if (err == nil) != (want != nil) || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}

// FuzzMessages reads any bytes as what a server says. They cost no more than they are.
func FuzzMessages(f *testing.F) {
	f.Add([]byte(`{"id":2,"error":null,"result":{"ACL":{"` + anID + `":{"initial":{"name":"a","external_ids":["map",[["a","b"]]]}}}}}`))
	f.Add([]byte(`{"id":null,"method":"update2","params":["kube-enricher",{"ACL":{"` + anID + `":{"modify":{"name":["set",[]]},"delete":null}}}]}`))
	f.Add([]byte(`{"params":[[[[]]]],"method":"echo","id":{"a":[1]}}`))
	f.Fuzz(func(t *testing.T, said []byte) {
		for _, view := range []bool{true, false} {
			r := newRows()
			s := &session{cfg: &Config{Malformed: func(error) {}}, conn: &deaf{}, to: r, view: view, viewed: !view}
			s.in = newDecoder(bytes.NewReader(said))
			for range len(said) + 1 {
				if s.message() != nil {
					return
				}
			}
			t.Fatal("messages without an end")
		}
	})
}

// deaf is a connection that takes all and says nothing.
type deaf struct{ net.Conn }

func (*deaf) Write(b []byte) (int, error)      { return len(b), nil }
func (*deaf) SetWriteDeadline(time.Time) error { return nil }

// TestFile reads files as they may be: real ones, of another tool, cut and empty.
func TestFile(t *testing.T) {
	const acls = `{"data":[[["uuid","` + anID + `"],"drop","ip4",["map",[["a","b"]]],["set",[]]]],"headings":["_uuid","action","match","external_ids","name"]}`
	for name, c := range map[string]struct{ text, rows, err string }{
		"rows first":     {acls + "\n\n" + `{"headings":["x"],"data":[[1]]}`, "01020304  a=b", ""},
		"headings first": {`{"headings":["_uuid","action","match","external_ids","name"],"caption":"ACL","data":[[["uuid","` + anID + `"],"drop","ip4",["map",[]],"n"]]}`, "01020304 n ", ""},
		"spaces":         {"\n { \"data\" :\n[ [ [\"uuid\",\"" + anID + "\"], \"drop\", \"ip4\", [\"map\",[]], \"n\" ] ] , \"headings\" : [\"_uuid\",\"action\",\"match\",\"external_ids\",\"name\"] }", "01020304 n ", ""},
		"another table":  {`{"headings":["_uuid","ports"],"data":[]}`, "", "holds none of the tables ACL, but one with the columns _uuid,ports"},
		"empty":          {"", "", "holds no table"},
		"a table":        {"_uuid : 01020304\naction : drop\n", "", "line 1: is no JSON"},
		"cut":            {acls + "\n" + acls[:60], "01020304  a=b", "ends within a table"},
		"no UUIDs":       {`{"headings":["action","match"],"data":[["drop","ip4"]]}`, "", "has no column _uuid"},
		"short row":      {`{"headings":["_uuid","action","match"],"data":[["drop"]]}`, "", "has 1 columns, not 3"},
		"array":          {`[1,2]`, "", "where a table was expected"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "nb.json")
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			r := newRows()
			_, err := ReadFile(file, []Table{testTable}, r)
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("%v, not %q", err, c.err)
			}
			if (r.ends == 1) != (err == nil) {
				t.Errorf("%d ends with error %v", r.ends, err)
			}
			if got := r.text(); got != c.rows {
				t.Errorf("rows: %q", got)
			}
		})
	}
	if _, err := ReadFile(filepath.Join(t.TempDir(), "none"), nil, newRows()); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
