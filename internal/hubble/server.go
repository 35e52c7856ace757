package hubble

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	observerpb "github.com/cilium/cilium/api/v1/observer"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// observerService is the name that Hubble's clients ask the health service for
// (pkg/hubble/api/v1 of github.com/cilium/cilium).
const observerService = "hubble.server.Observer"

// Config configures a [Server].
type Config struct {
	Addr string // HOST:PORT to listen on
	// Cert and Key are PEM files of the server's certificate, ClientCA one of those who sign
	// clients' certificates. All are read again when they change. Without Cert there is no TLS,
	// without ClientCA any client may connect.
	Cert, Key, ClientCA string
	// Mapping has the fields that a record's Ends belong to, by index of Ends.
	Mapping []flow.MapEntry
	// Labels names the labels in Object.Labels, in order.
	Labels  []string
	Cluster string // name of the cluster; empty if it has none
	Name    string // of this process, such as its host's
	Version string // of the program
	// NodeOf returns the name of the Node that has an address at a time (Unix nanoseconds), empty
	// if none has; nil if no Nodes are known.
	NodeOf func(addr netip.Addr, at int64) string
}

// Server answers Hubble's clients. Any number of goroutines may call its methods.
type Server struct {
	observerpb.UnimplementedObserverServer
	names

	cfg     Config
	source  Source
	log     logrus.FieldLogger
	started time.Time

	listener net.Listener
	front    *http.Server
	grpc     *grpc.Server
	health   *health.Server

	rate       rate
	nodes      *answer[*observerpb.GetNodesResponse]
	namespaces *answer[*observerpb.GetNamespacesResponse]

	// Places for calls, and for those that take most.
	calls, streams, lists, scans chan struct{}
	// What peers have of them.
	callsAt, streamsAt *share

	skipped, cut prometheus.Counter
}

// New returns a server that does nothing before [Server.Listen]. skipped counts the records that
// clients were too slow for.
func New(cfg Config, source Source, skipped prometheus.Counter, log logrus.FieldLogger, reg prometheus.Registerer) (*Server, error) {
	s := newServer(cfg, source)
	s.log, s.skipped = log, skipped
	var config *tls.Config
	if cfg.Cert != "" {
		files, err := loadCertificates(cfg.Cert, cfg.Key, cfg.ClientCA, log)
		if err != nil {
			return nil, err
		}
		config = &tls.Config{MinVersion: minTLS, GetConfigForClient: files.configFor}
	}
	s.front = s.newFront(config)
	s.grpc = grpc.NewServer(grpc.MaxRecvMsgSize(maxRequest), grpc.WaitForHandlers(true))
	observerpb.RegisterObserverServer(s.grpc, s)
	healthpb.RegisterHealthServer(s.grpc, s.health)
	for _, name := range [...]string{observerService, observerpb.Observer_ServiceDesc.ServiceName} {
		s.health.SetServingStatus(name, healthpb.HealthCheckResponse_SERVING)
	}
	return s, reg.Register(s.cut)
}

// newServer returns a server without a way for clients.
func newServer(cfg Config, source Source) *Server {
	s := &Server{
		cfg: cfg, source: source, started: time.Now(),
		names: names{
			src: flow.MaxEnds, dst: flow.MaxEnds, labels: cfg.Labels, cluster: valid(cfg.Cluster), ids: newIdentities(), nodeOf: cfg.NodeOf,
		},
		health: health.NewServer(),
		nodes:  newAnswer[*observerpb.GetNodesResponse](), namespaces: newAnswer[*observerpb.GetNamespacesResponse](),
		calls: make(chan struct{}, maxCalls), streams: make(chan struct{}, maxStreams), lists: make(chan struct{}, maxLists),
		scans: make(chan struct{}, maxScans), callsAt: newShare(maxCallsAt), streamsAt: newShare(maxStreamsAt),
		cut: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "kube_enricher_hubble_streams_cut_total",
			Help: "calls of Hubble's clients that were ended because the client read nothing for a minute",
		}),
	}
	for i, e := range cfg.Mapping {
		switch e.Field {
		case flow.FieldSrcAddr:
			s.names.src = i
		case flow.FieldDstAddr:
			s.names.dst = i
		}
	}
	return s
}

// Listen opens the address, so that a port in use is known at once. Clients are served once
// [Server.Run] runs.
func (s *Server) Listen() error {
	l, err := net.Listen("tcp", s.cfg.Addr)
	if err != nil {
		if op := (*net.OpError)(nil); errors.As(err, &op) {
			err = op.Err // the address is named already
		}
		return fmt.Errorf("listen for Hubble's clients on %s (-hubble.addr): %w", s.cfg.Addr, err)
	}
	if a, ok := l.Addr().(*net.TCPAddr); ok && s.cfg.Cert == "" && !a.IP.IsLoopback() {
		s.log.WithField("address", a.String()).Warn("Hubble's clients are answered without TLS on an address that others can reach; give -hubble.tls.cert, .key and .client-ca, or a loopback address")
	}
	s.listener = limited(l, maxConnections, maxConnectionsAt)
	return nil
}

// Addr returns the address that is open, empty before [Server.Listen].
func (s *Server) Addr() string {
	if s.listener == nil {
		return ""
	}
	return s.listener.Addr().String()
}

// Close closes the address, if Run is not called.
func (s *Server) Close() { _ = s.listener.Close() }

// Run answers clients until ctx ends. Then it ends what they still ask for: once Run has
// returned, nobody reads from the source any more.
func (s *Server) Run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- s.serve() }()
	var measuring sync.WaitGroup
	measuring.Go(func() { s.measure(ctx) })
	var err error
	select {
	case <-ctx.Done():
		s.health.Shutdown()
		s.end()
		err = <-served
	case err = <-served:
		s.end()
		<-ctx.Done() // what else runs does not end with us
	}
	measuring.Wait()
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve Hubble's clients: %w", err)
	}
	return nil
}

func (s *Server) serve() error {
	if s.front.TLSConfig != nil {
		return s.front.ServeTLS(s.listener, "", "")
	}
	return s.front.Serve(s.listener)
}

// end closes all connections, and waits for those who still work for a client.
func (s *Server) end() {
	_ = s.front.Close()
	s.grpc.Stop()
	for range maxStreams { // none is left once all places are ours
		s.streams <- struct{}{}
	}
}
