package transport

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"google.golang.org/protobuf/encoding/protowire"
)

// Defaults of [OTLPConfig].
const (
	DefaultOTLPEndpoint     = "localhost:4317"
	DefaultOTLPHTTPEndpoint = "http://localhost:4318/v1/logs"
)

// The values of OTLPConfig.Protocol.
const (
	OTLPGRPC = "grpc"
	OTLPHTTP = "http"
)

const (
	// otlpBatch bounds a request before compression, in bytes. Receivers take 4 MiB by
	// gRPC unless asked otherwise.
	otlpBatch = 1 << 20
	// otlpFlush is how long a record may wait for its batch to fill up.
	otlpFlush = time.Second
)

// OTLPConfig has the settings of an output that speaks OpenTelemetry's protocol. The
// zero value of a field stands for its default. Records are of an encoder that
// appends them as fields log_records of ScopeLogs.
type OTLPConfig struct {
	// Protocol is OTLPGRPC or OTLPHTTP.
	Protocol string
	// Address is HOST:PORT of the receiver, for OTLPGRPC.
	Address string
	// URL is where batches are sent, for OTLPHTTP. See [ParseURL].
	URL *url.URL
	// Headers are sent with each request, as metadata with gRPC.
	Headers []Header
	// UseTLS makes connections use TLS, for OTLPGRPC; with OTLPHTTP the URL decides.
	UseTLS bool
	TLS    TLSFiles
	// Compression is CompressionNone or CompressionGzip.
	Compression string
	// Timeout bounds a request.
	Timeout time.Duration
	// Resource has the attributes of the resource that all records are of, in pairs of
	// name and value.
	Resource [][2]string

	// BufferBytes bounds the records that are not acknowledged yet, in bytes.
	BufferBytes int
	// Block makes workers wait when the buffer is full, instead of dropping
	// the newest records: for inputs that can wait. Run then reports records
	// that could not be written as an error.
	Block bool
	// DrainTimeout is how long Run goes on after its context has ended. It is
	// [DefaultDrainTimeout] if 0.
	DrainTimeout time.Duration
	// Several reports whether this is one of several outputs. The metric records_held has
	// the transport as a label then.
	Several bool
}

// OTLP writes batches of log records to a receiver of OpenTelemetry's protocol. It
// implements [Output], with the same rules for concurrent calls.
//
// A record counts as written once the receiver has acknowledged its batch and not
// rejected it. After a failure that the specification calls retryable, a timeout or a
// broken connection among them, the batch is sent again, so records may be there
// twice (OpenTelemetry Protocol Specification 1.11, sections "Failures" and
// "Duplicate Data").
type OTLP struct {
	batchOutput
}

// NewOTLP returns an output that is inert until Run, and registers its metrics. It
// fails if the configuration is wrong, or if reg has the metrics of another such
// output. The error is a [FileError] if a file that the configuration names cannot
// be used.
func NewOTLP(cfg OTLPConfig, enc Encoder, log logrus.FieldLogger, reg prometheus.Registerer) (*OTLP, error) {
	// What both have in common has the same defaults.
	h := HTTPConfig{
		URL: cfg.URL, Headers: cfg.Headers, ContentType: "application/x-protobuf", Compression: cfg.Compression, Timeout: cfg.Timeout,
		Retry: true, TLS: cfg.TLS, BatchBytes: otlpBatch, BufferBytes: cfg.BufferBytes, DrainTimeout: cfg.DrainTimeout,
	}
	h.setDefaults()
	if h.BufferBytes < minHTTPBuffer {
		return nil, fmt.Errorf("buffer of %d bytes is too small; it must have at least %d", h.BufferBytes, minHTTPBuffer)
	}
	s, err := newOTLPSender(cfg, h)
	if err != nil {
		return nil, err
	}
	o := new(OTLP)
	o.init(runnerConfig{
		transport:    "otlp",
		name:         "otlp",
		block:        cfg.Block,
		several:      cfg.Several,
		drainTimeout: h.DrainTimeout,
		flushEvery:   tickOf(otlpFlush),
		stallAfter:   stallAfter,
		stallText:    "no batch was acknowledged",
	}, newBuffer(enc, h.BufferBytes, cfg.Block), log, "the receiver was not reached yet")
	o.initBatches(s, h.BatchBytes, otlpFlush)
	if err := o.register(reg); err != nil {
		return nil, err
	}
	return o, nil
}

// newOTLPSender returns the sender of the protocol that is asked for.
func newOTLPSender(cfg OTLPConfig, h HTTPConfig) (sender, error) {
	e := newEnvelope(cfg.Resource)
	switch cfg.Protocol {
	case OTLPGRPC, "":
		return newGRPCClient(cfg, h.Timeout, e)
	case OTLPHTTP:
		c, err := newHTTPClient(h)
		if err != nil {
			return nil, err
		}
		c.envelope, c.accepted, c.again = e.before, partialSuccess, retryableCode
		return c, nil
	}
	return nil, fmt.Errorf("otlp: no protocol is named %q", cfg.Protocol)
}

// retryableCode reports whether the specification has a request sent again after an
// answer with this code.
func retryableCode(code int) bool {
	switch code {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// envelope makes what is around the records of a request: ExportLogsServiceRequest,
// ResourceLogs and ScopeLogs. Each has the next one as its last field, and records are
// the last fields of ScopeLogs.
type envelope struct {
	resource []byte // field resource of ResourceLogs
	scope    []byte // field scope of ScopeLogs
}

// The fields of the messages (opentelemetry-proto v1.11). The names are those of
// field and message.
const (
	fieldResourceLogs = 1 // ExportLogsServiceRequest
	fieldResource     = 1 // ResourceLogs
	fieldScopeLogs    = 2 // ResourceLogs
	fieldAttributes   = 1 // Resource
	fieldScope        = 1 // ScopeLogs
	fieldScopeName    = 1 // InstrumentationScope
	fieldKey          = 1 // KeyValue
	fieldValue        = 2 // KeyValue
	fieldStringValue  = 1 // AnyValue

	fieldPartialSuccess = 1 // ExportLogsServiceResponse
	fieldRejected       = 1 // ExportLogsPartialSuccess
	fieldErrorMessage   = 2 // ExportLogsPartialSuccess
)

// scopeName is what makes the records.
const scopeName = "github.com/netobserv/goflow2-kube-enricher"

func newEnvelope(attributes [][2]string) envelope {
	var resource []byte
	for _, a := range attributes {
		value := appendBytes(nil, fieldStringValue, a[1])
		kv := appendBytes(nil, fieldKey, a[0])
		kv = appendBytes(kv, fieldValue, value)
		resource = appendBytes(resource, fieldAttributes, kv)
	}
	return envelope{
		resource: appendBytes(nil, fieldResource, resource),
		scope:    appendBytes(nil, fieldScope, appendBytes(nil, fieldScopeName, scopeName)),
	}
}

// appendBytes appends a field with a length.
func appendBytes[S []byte | string](b []byte, number protowire.Number, v S) []byte {
	b = protowire.AppendTag(b, number, protowire.BytesType)
	return append(protowire.AppendVarint(b, uint64(len(v))), v...)
}

// before returns what goes before the records of a batch.
func (e *envelope) before(b *batch) []byte {
	scope := len(e.scope) + b.size
	logs := len(e.resource) + protowire.SizeTag(fieldScopeLogs) + protowire.SizeBytes(scope)
	p := make([]byte, 0, 64+len(e.resource)+len(e.scope))
	p = protowire.AppendVarint(protowire.AppendTag(p, fieldResourceLogs, protowire.BytesType), uint64(logs))
	p = append(p, e.resource...)
	p = protowire.AppendVarint(protowire.AppendTag(p, fieldScopeLogs, protowire.BytesType), uint64(scope))
	return append(p, e.scope...)
}

// partialSuccess reads an ExportLogsServiceResponse. What cannot be read is taken for
// an answer without one: the receiver has acknowledged the batch.
func partialSuccess(response []byte, hidden secrets) attempt {
	a := attempt{verdict: sentAll}
	partial := bytesField(response, fieldPartialSuccess)
	message := quoteAnswer(hidden.redact(string(bytesField(partial, fieldErrorMessage))))
	var rejected int64
	for len(partial) > 0 {
		number, typ, n := protowire.ConsumeTag(partial)
		if n < 0 {
			break
		}
		partial = partial[n:]
		if number == fieldRejected && typ == protowire.VarintType {
			v, _ := protowire.ConsumeVarint(partial)
			rejected = int64(v)
		}
		if n = protowire.ConsumeFieldValue(number, typ, partial); n < 0 {
			break
		}
		partial = partial[n:]
	}
	switch {
	case rejected > 0:
		a.rejected = int(min(rejected, 1<<31)) // more than any batch has
		a.err = errors.New("the receiver has rejected records of a batch" + message)
	case rejected < 0:
		a.warning = fmt.Sprintf("the receiver has rejected %d records of a batch, which counts as none%s", rejected, message)
	case message != "":
		a.warning = "the receiver has taken a batch with a warning" + message
	}
	return a
}

// bytesField returns the last field of a message with a number and a length; nil if
// there is none, or the message is none.
func bytesField(message []byte, number protowire.Number) (v []byte) {
	for len(message) > 0 {
		num, typ, n := protowire.ConsumeTag(message)
		if n < 0 {
			return v
		}
		size := protowire.ConsumeFieldValue(num, typ, message[n:])
		if size < 0 {
			return v
		}
		if num == number && typ == protowire.BytesType {
			v, _ = protowire.ConsumeBytes(message[n:])
		}
		message = message[n+size:]
	}
	return v
}
