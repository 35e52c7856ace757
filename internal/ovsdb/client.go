package ovsdb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Config has the settings of a [Client].
type Config struct {
	Remotes  []Remote // tried one after the other
	Keys     Keys     // for those by TLS
	Database string   // such as OVN_Northbound
	Tables   []Table
	// Failed is called when a connection has failed or ended, with the error, which says what
	// to do, and the time until the next attempt.
	Failed func(err error, wait time.Duration)
	// Ready is called when a whole view has been received from a server.
	Ready func(remote Remote)
	// Malformed is called for a row that the receiver cannot read.
	Malformed func(err error)
}

// Client follows a database. Its methods are called by one goroutine.
type Client struct{ cfg Config }

// New makes a client, which does nothing before Run.
func New(cfg Config) *Client { return &Client{cfg: cfg} }

const (
	connectTimeout = 10 * time.Second
	probeTimeout   = 5 * time.Second
	writeTimeout   = 10 * time.Second
	// probeAfter is how long a server may be silent before it is asked whether it is there. A
	// server that is silent for twice that time is given up.
	probeAfter = 30 * time.Second
	// After a failure the client waits for minWait, then twice as long each time.
	minWait, maxWait = time.Second, 30 * time.Second
)

// Run connects, hands the rows to a receiver, and begins anew when the connection ends, until
// ctx does.
func (c *Client) Run(ctx context.Context, to Receiver) {
	wait := minWait
	for attempt := 0; ctx.Err() == nil; attempt++ {
		remote := c.cfg.Remotes[attempt%len(c.cfg.Remotes)]
		began := time.Now()
		begun, err := c.follow(ctx, remote, to)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > maxWait {
			wait = minWait // it has worked for a while
		}
		pause := wait/2 + rand.N(wait/2+1) //nolint:gosec // spreads clients, no secret
		c.cfg.Failed(fmt.Errorf("%v: %w", remote, explain(remote, begun, err)), pause)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		if wait *= 2; wait > maxWait {
			wait = maxWait
		}
	}
}

// follow works with one connection until it ends. begun reports whether the tables have come.
func (c *Client) follow(ctx context.Context, remote Remote, to Receiver) (begun bool, err error) {
	s, err := c.cfg.dial(ctx, remote, to)
	if err != nil {
		return false, err
	}
	defer s.conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = s.conn.Close() })
	defer stop()
	if err := s.run(); err != nil {
		return false, err
	}
	c.cfg.Ready(remote)
	return true, s.watch()
}

// dial begins a session.
func (cfg *Config) dial(ctx context.Context, remote Remote, to Receiver) (*session, error) {
	dialing, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := remote.dial(dialing, cfg.Keys)
	if err != nil {
		return nil, err
	}
	s := &session{cfg: cfg, conn: conn, to: to}
	s.in = newDecoder(s)
	return s, nil
}

// Probe asks the remotes one after the other for the tables that there are, without reading
// them, and returns the first that answers and the tables. It ends with ctx.
func Probe(ctx context.Context, cfg Config) (remote Remote, tables []string, err error) {
	for _, r := range cfg.Remotes {
		trying, cancel := context.WithTimeout(ctx, probeTimeout)
		tables, failed := cfg.probe(trying, r)
		cancel()
		if failed == nil {
			return r, tables, nil
		}
		failed = fmt.Errorf("%v: %w", r, explain(r, false, failed))
		if err == nil {
			err = failed
		} else {
			err = fmt.Errorf("%w; %w", err, failed)
		}
	}
	return remote, nil, err
}

func (cfg *Config) probe(ctx context.Context, remote Remote) ([]string, error) {
	s, err := cfg.dial(ctx, remote, nil)
	if err != nil {
		return nil, err
	}
	defer s.conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = s.conn.Close() })
	defer stop()
	wanted, err := s.schema()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return slices.Sorted(maps.Keys(wanted)), err
}

// monitorName is what updates are recognized by.
const monitorName = "kube-enricher"

// session is one connection. One goroutine uses it; its timer writes, too.
type session struct {
	cfg  *Config
	conn net.Conn
	in   *decoder
	to   Receiver

	probed bool // the server was asked whether it is there, and has been silent since

	writing sync.Mutex
	last    uint64 // id of the last call

	// What the last response had.
	id     json.RawMessage
	result json.RawMessage
	failed error
	viewed bool // it was the whole view, which has been handed over
	view   bool // the response to come is the whole view
}

// Read implements io.Reader: it reads from the server, and asks whether it is there if it is
// silent.
func (s *session) Read(b []byte) (int, error) {
	for {
		if err := s.conn.SetReadDeadline(time.Now().Add(probeAfter)); err != nil {
			return 0, err
		}
		n, err := s.conn.Read(b)
		timeout := net.Error(nil)
		if n > 0 || !errors.As(err, &timeout) || !timeout.Timeout() {
			s.probed = false
			return n, err
		}
		if s.probed {
			return 0, fmt.Errorf("silent for %v", 2*probeAfter)
		}
		s.probed = true
		if err := s.send(map[string]any{"id": "echo", "method": "echo", "params": []any{}}); err != nil {
			return 0, err
		}
	}
}

// send writes one message.
func (s *session) send(message any) error {
	text, err := json.Marshal(message)
	if err != nil {
		return err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err = s.conn.Write(text)
	return err
}

// run asks for the schema and for the tables, and hands over the whole view.
func (s *session) run() error {
	requests, err := s.schema()
	if err != nil {
		return err
	}
	s.view = true
	_, err = s.call("monitor_cond", s.cfg.Database, monitorName, requests)
	if err == nil && !s.viewed {
		err = errors.New("its answer to monitor_cond has no tables; OVN 20.03 and newer have monitor_cond")
	}
	return err
}

// schema asks for the schema, and returns what monitor_cond takes.
func (s *session) schema() (requests map[string]any, err error) {
	schema, err := s.call("get_schema", s.cfg.Database)
	if err != nil && s.failed != nil {
		err = s.wrongDatabase(err)
	}
	if err != nil {
		return nil, err
	}
	return requestsOf(schema, s.cfg)
}

// wrongDatabase says which databases there are, if there is not the one that was asked for.
func (s *session) wrongDatabase(err error) error {
	names, listErr := s.call("list_dbs")
	var list []string
	if listErr != nil || json.Unmarshal(names, &list) != nil || slices.Contains(list, s.cfg.Database) {
		return fmt.Errorf("schema of %s: %w", s.cfg.Database, err)
	}
	return fmt.Errorf("has no database %s, but %s; name another socket or port", s.cfg.Database, strings.Join(list, ", "))
}

// requestsOf returns what monitor_cond takes: the columns of each table that the schema has.
func requestsOf(schema json.RawMessage, cfg *Config) (map[string]any, error) {
	var has struct {
		Tables map[string]struct {
			Columns map[string]json.RawMessage `json:"columns"`
		} `json:"tables"`
	}
	if err := json.Unmarshal(schema, &has); err != nil {
		return nil, fmt.Errorf("schema of %s: %w", cfg.Database, err)
	}
	wanted := make(map[string]any)
	for _, t := range cfg.Tables {
		table, ok := has.Tables[t.Name]
		if !ok {
			continue
		}
		columns := slices.DeleteFunc(slices.Clone(t.Columns), func(name string) bool { return table.Columns[name] == nil })
		wanted[t.Name] = []any{map[string]any{"columns": columns}}
	}
	if len(wanted) == 0 {
		return nil, fmt.Errorf("the schema of %s has none of the tables %s; give the socket or port of OVN's databases", cfg.Database, tableNames(cfg.Tables))
	}
	return wanted, nil
}

// call calls a method, and reads messages until its response has come.
func (s *session) call(method string, params ...any) (json.RawMessage, error) {
	s.last++
	if params == nil {
		params = []any{}
	}
	id := strconv.FormatUint(s.last, 10)
	if err := s.send(map[string]any{"id": s.last, "method": method, "params": params}); err != nil {
		if ended(err) { // what the server said before tells more
			if said := s.message(); said != nil && !ended(said) {
				err = said
			}
		}
		return nil, err
	}
	for {
		if err := s.message(); err != nil {
			return nil, err
		}
		if string(s.id) == id {
			return s.result, s.failed
		}
	}
}

// watch reads messages until the connection ends, and says until when the view was right: to
// the last message that was read, or to the end if the server has said all that it had.
func (s *session) watch() error {
	for {
		right := time.Now()
		err := s.message()
		if err == nil {
			continue
		}
		if err == io.EOF {
			right = time.Now()
		}
		s.to.Lost(right)
		return err
	}
}

// message reads one message: a response, an update or a call. Its members come in any order.
func (s *session) message() error {
	s.id, s.result, s.failed = nil, nil, nil
	var method string
	var params json.RawMessage
	if err := s.in.open('{'); err != nil {
		return err
	}
	err := s.in.members(func(key string) error {
		switch key {
		case "id":
			return s.in.value(&s.id)
		case "method":
			return s.in.value(&method)
		case "error":
			var raw json.RawMessage
			err := s.in.value(&raw)
			s.failed = parseError(raw)
			return err
		case "result":
			if s.view {
				return s.wholeView()
			}
			return s.in.value(&s.result)
		case "params":
			return s.params(&params)
		}
		var ignored json.RawMessage
		return s.in.value(&ignored)
	})
	if err == io.EOF {
		err = io.ErrUnexpectedEOF // the server has not said all that it had
	}
	if err != nil || method != "echo" {
		return err
	}
	return s.send(map[string]any{"id": s.id, "result": params, "error": nil})
}

// wholeView reads the result of monitor_cond.
func (s *session) wholeView() error {
	t, err := s.in.token()
	if err != nil || t == nil { // null comes with an error
		return err
	}
	if t != json.Delim('{') {
		return fmt.Errorf("%.40v where tables were expected", t)
	}
	s.view, s.viewed = false, true
	s.to.Begin()
	if err := s.in.tables(s.row); err != nil {
		return err
	}
	s.to.End()
	return nil
}

// params reads the parameters of a call. Those of an update are handed over, others kept.
func (s *session) params(kept *json.RawMessage) error {
	if err := s.in.open('['); err != nil {
		return err
	}
	var others []json.RawMessage
	for s.in.More() {
		if len(others) == 1 && string(others[0]) == `"`+monitorName+`"` && s.viewed {
			if err := s.update(); err != nil {
				return err
			}
			continue
		}
		var v json.RawMessage
		if err := s.in.value(&v); err != nil {
			return err
		}
		if others = append(others, v); len(others) > 100 {
			return errors.New("a call with more than 100 parameters")
		}
	}
	if _, err := s.in.token(); err != nil {
		return err
	}
	if others == nil {
		others = []json.RawMessage{}
	}
	text, err := json.Marshal(others)
	*kept = text
	return err
}

// update reads the tables of an update.
func (s *session) update() error {
	if err := s.in.open('{'); err != nil {
		return err
	}
	if err := s.in.tables(s.row); err != nil {
		return err
	}
	s.to.End()
	return nil
}

// row hands one row to the receiver. What it cannot read costs that row alone.
func (s *session) row(table string, id UUID, op Op, r Row) error {
	if err := s.to.Change(table, id, op, r); err != nil {
		s.cfg.Malformed(&explained{err: fmt.Errorf("table %s, row %x: %w", table, id, err)})
	}
	return nil
}
