package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// auditLog is the name of the audit log, in the cluster's directory.
const auditLog = "audit.log"

// auditPolicy has service accounts' requests written down, each once, when it
// was answered (a watch: when it began, too).
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
    userGroups: ["system:serviceaccounts"]
  - level: None
`

// WithAudit has the API server keep an audit log of service accounts' requests.
func WithAudit() Option { return func(c *Cluster) { c.audit = true } }

// Request is an entry of the audit log.
type Request struct {
	Verb string
	User struct{ Username string }
	// Ref is what the request was about.
	Ref struct {
		Resource, Namespace, Name, APIGroup string
	} `json:"objectRef"`
	Status struct{ Code int } `json:"responseStatus"`
}

func (r *Request) String() string {
	return fmt.Sprintf("%s %s.%s %s/%s: %d", r.Verb, r.Ref.Resource, r.Ref.APIGroup, r.Ref.Namespace, r.Ref.Name, r.Status.Code)
}

// Requests returns what a service account has asked so far. The log is written
// before requests are answered.
func (c *Cluster) Requests(namespace, account string) ([]Request, error) {
	data, err := os.ReadFile(c.path(auditLog))
	if err != nil {
		return nil, err
	}
	// An entry may be half written.
	data = data[:bytes.LastIndexByte(data, '\n')+1]
	user := "system:serviceaccount:" + namespace + ":" + account
	var requests []Request
	for d := json.NewDecoder(bytes.NewReader(data)); ; {
		var r Request
		err := d.Decode(&r)
		if errors.Is(err, io.EOF) {
			return requests, nil
		}
		if err != nil {
			return nil, fmt.Errorf("audit log: %w", err)
		}
		if r.User.Username == user {
			requests = append(requests, r)
		}
	}
}
