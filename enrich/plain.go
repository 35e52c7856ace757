package enrich

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// plain returns an error of a request to the API server in words for the log and for /readyz:
// without the URL, and with what to do where that is known. It wraps the error.
func plain(err error) error {
	inner := err
	if u := (*url.Error)(nil); errors.As(err, &u) {
		inner = u.Err
	}
	timeout := net.Error(nil)
	switch {
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("renew the token or certificate of the kubeconfig or service account: %w", inner)
	case errors.As(err, new(x509.UnknownAuthorityError)):
		return fmt.Errorf("name the cluster's own authority by certificate-authority in the kubeconfig: %w", inner)
	case errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("no answer in time: %w", inner)
	}
	return inner
}

// trouble says in plain words what is wrong when a request to the API server fails: its verb and
// resource are such as "list replicasets".
func trouble(err error, request string) string {
	if status := apierrors.APIStatus(nil); errors.As(err, &status) {
		return "the Kubernetes API refuses a request (" + request + "); retrying"
	}
	return "cannot reach the Kubernetes API (" + request + "); retrying"
}
