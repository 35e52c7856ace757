package enrich

import (
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

// TestPlain makes real requests that fail, and reads what is said of them.
func TestPlain(t *testing.T) {
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	answers := func(status int) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		t.Cleanup(s.Close)
		return s.URL
	}
	for _, tc := range []struct {
		name, url      string
		message, text  string
		unauthorized   bool
		unknownCertify bool
	}{
		{name: "refused", url: "http://" + closed.Addr().String(), message: "cannot reach the Kubernetes API (list pods); retrying",
			text: "dial tcp " + closed.Addr().String() + ": connect: connection refused"},
		{name: "certificate", url: secure.URL, message: "cannot reach the Kubernetes API (list pods); retrying",
			text: "name the cluster's own authority by certificate-authority in the kubeconfig: ", unknownCertify: true},
		{name: "token", url: answers(http.StatusUnauthorized), message: "the Kubernetes API refuses a request (list pods); retrying",
			text: "renew the token or certificate of the kubeconfig or service account: ", unauthorized: true},
		{name: "fault", url: answers(http.StatusInternalServerError), message: "the Kubernetes API refuses a request (list pods); retrying",
			text: "an error on the server"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := rest.UnversionedRESTClientFor(&rest.Config{Host: tc.url, ContentConfig: rest.ContentConfig{NegotiatedSerializer: scheme.Codecs.WithoutConversion()}})
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Get().AbsPath("/api/v1/pods").MaxRetries(0).DoRaw(t.Context())
			if err == nil {
				t.Fatal("no error")
			}
			if got := trouble(err, "list pods"); got != tc.message {
				t.Errorf("%s: %v", got, err)
			}
			got := plain(err)
			if !strings.HasPrefix(got.Error(), tc.text) || strings.Contains(got.Error(), "/api/v1/pods") {
				t.Errorf("%q of %q", got, err)
			}
			if apierrors.IsUnauthorized(got) != tc.unauthorized || errors.As(got, new(x509.UnknownAuthorityError)) != tc.unknownCertify {
				t.Errorf("%v is another error than %v", got, err)
			}
		})
	}
}
