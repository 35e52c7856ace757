// Package cluster runs a real Kubernetes API server, with etcd behind it, for
// tests: RBAC, service account tokens and dual-stack services work as in any
// cluster. Unless asked for there are no controllers and no nodes; tests write
// the status that these would write.
package cluster

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"time"

	etcd "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	authv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/netobserv/goflow2-kube-enricher/test/e2e/proc"
)

const (
	startTimeout = 2 * time.Minute
	stopTimeout  = 30 * time.Second
)

// Cluster is a running API server and its etcd.
type Cluster struct {
	// Client and Dynamic have all rights.
	Client  kubernetes.Interface
	Dynamic dynamic.Interface

	bin, dir string
	etcdURL  string
	port     int
	admin    *rest.Config

	audit       bool
	controllers bool
	stages      []string // files for kwok, besides its own

	etcdProc, apiProc *proc.Process
	others            []*proc.Process // controllers
}

// Option is something that not every test needs.
type Option func(*Cluster)

// Start starts etcd and kube-apiserver, whose executables are in bin, with all
// their files in dir, and returns when the API server is ready.
func Start(ctx context.Context, bin, dir string, options ...Option) (*Cluster, error) {
	c := &Cluster{bin: bin, dir: dir}
	for _, option := range options {
		option(c)
	}
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context) error {
	token, err := c.writeSecrets()
	if err != nil {
		return err
	}
	if c.port, err = proc.FreePort(); err != nil {
		return fmt.Errorf("API server: %w", err)
	}
	if err := c.startEtcd(); err != nil {
		return err
	}
	c.admin = &rest.Config{
		Host:            fmt.Sprintf("https://127.0.0.1:%d", c.port),
		BearerToken:     token,
		TLSClientConfig: rest.TLSClientConfig{CAFile: c.path("apiserver.crt")},
		QPS:             -1, // nobody else to be fair to
		WarningHandler:  rest.NoWarnings{},
	}
	if err := c.StartAPIServer(ctx); err != nil {
		return err
	}
	if c.controllers {
		return c.startControllers()
	}
	return nil
}

// executable is the path of one of the programs.
func (c *Cluster) executable(name string) string { return filepath.Join(c.bin, name) }

func (c *Cluster) path(name string) string { return filepath.Join(c.dir, name) }

// writeSecrets makes the key of service account tokens and the administrator's
// token, which it returns.
func (c *Cluster) writeSecrets() (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", fmt.Errorf("service account key: %w", err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return "", fmt.Errorf("service account key: %w", err)
	}
	sa := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	if err := os.WriteFile(c.path("sa.key"), sa, 0o600); err != nil {
		return "", err
	}
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		return "", fmt.Errorf("administrator's token: %w", err)
	}
	token := hex.EncodeToString(random)
	return token, os.WriteFile(c.path("tokens.csv"), []byte(token+`,admin,admin,"system:masters"`+"\n"), 0o600)
}

func (c *Cluster) startEtcd() error {
	cmd := exec.Command(c.executable("etcdlite"), c.path("etcd"))
	stdout, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	defer func() { _ = stdout.Close() }()
	cmd.Stdout = w
	c.etcdProc, err = c.startLogged(cmd, "etcd.log")
	if err = errors.Join(err, w.Close()); err != nil {
		return err
	}
	if err := stdout.SetReadDeadline(time.Now().Add(startTimeout)); err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return fmt.Errorf("etcd did not start (%w):\n%s", err, c.tail("etcd.log"))
	}
	c.etcdURL = line[:len(line)-1]
	return nil
}

// startLogged starts cmd with its standard error appended to a file in dir.
func (c *Cluster) startLogged(cmd *exec.Cmd, name string) (*proc.Process, error) {
	log, err := os.OpenFile(c.path(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	cmd.Stderr = log
	return proc.Start(cmd)
}

// tail is the end of a log, for error messages.
func (c *Cluster) tail(name string) []byte {
	log, err := os.ReadFile(c.path(name))
	if err != nil {
		return []byte(err.Error())
	}
	return log[max(0, len(log)-2000):]
}

// StartAPIServer starts the API server, unless it runs, on the same port as
// before and returns when it is ready.
func (c *Cluster) StartAPIServer(ctx context.Context) error {
	if c.apiProc != nil && c.apiProc.Running() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	args := []string{
		"--etcd-servers=" + c.etcdURL,
		"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", c.port),
		"--cert-dir=" + c.dir,
		"--endpoint-reconciler-type=none",
		"--authorization-mode=RBAC", "--anonymous-auth=false",
		"--token-auth-file=" + c.path("tokens.csv"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + c.path("sa.key"),
		"--service-account-signing-key-file=" + c.path("sa.key"),
		"--service-cluster-ip-range=10.96.0.0/16,fd00:96::/108",
	}
	if !c.controllers {
		// Its default service accounts are made by a controller.
		args = append(args, "--disable-admission-plugins=ServiceAccount")
	}
	if c.audit {
		if err := os.WriteFile(c.path("audit.yaml"), []byte(auditPolicy), 0o600); err != nil {
			return err
		}
		args = append(args, "--audit-policy-file="+c.path("audit.yaml"), "--audit-log-path="+c.path(auditLog))
	}
	var err error
	if c.apiProc, err = c.startLogged(exec.Command(c.executable("kube-apiserver"), args...), "apiserver.log"); err != nil {
		return err
	}
	err = wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, c.ready)
	if err != nil {
		return fmt.Errorf("API server did not become ready (%w):\n%s", err, c.tail("apiserver.log"))
	}
	return nil
}

// ready asks the API server once. The first time it also makes the clients,
// which need the certificate that the server makes for itself.
func (c *Cluster) ready(ctx context.Context) (bool, error) {
	if !c.apiProc.Running() {
		return false, fmt.Errorf("it ended: %w", c.apiProc.Err())
	}
	if c.Client == nil {
		if _, err := os.Stat(c.path("apiserver.crt")); err != nil {
			return false, nil //nolint:nilerr // not yet
		}
		client, err := kubernetes.NewForConfig(c.admin)
		if err != nil {
			return false, nil //nolint:nilerr // half-written certificate
		}
		if c.Dynamic, err = dynamic.NewForConfig(c.admin); err != nil {
			return false, err
		}
		c.Client = client
	}
	err := c.Client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	return err == nil, nil
}

// StopAPIServer ends the API server at once, as a crash does, and leaves etcd
// running. (In good order it would take a minute to part from its watchers.)
func (c *Cluster) StopAPIServer() error {
	return c.apiProc.Stop(os.Kill, stopTimeout)
}

// Forget removes an object from etcd, behind the back of the API server: what
// another server does while this one is away.
func (c *Cluster) Forget(ctx context.Context, resource, namespace, name string) error {
	client, err := etcd.New(etcd.Config{Endpoints: []string{c.etcdURL}, Context: ctx, DialTimeout: stopTimeout, Logger: zap.NewNop()})
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	defer func() { _ = client.Close() }()
	key := path.Join("/registry", resource, namespace, name)
	response, err := client.Delete(ctx, key)
	if err != nil {
		return fmt.Errorf("etcd: delete %s: %w", key, err)
	}
	if response.Deleted != 1 {
		return fmt.Errorf("etcd: there is no %s", key)
	}
	return nil
}

// Stop stops what runs, at once.
func (c *Cluster) Stop() error {
	var errs []error
	for _, p := range c.others {
		errs = append(errs, p.Stop(os.Kill, stopTimeout))
	}
	if c.apiProc != nil {
		errs = append(errs, c.StopAPIServer())
	}
	if c.etcdProc != nil {
		errs = append(errs, c.etcdProc.Stop(os.Kill, stopTimeout))
	}
	return errors.Join(errs...)
}

// Kubeconfig writes a kubeconfig file with which name is a service account of
// namespace, as a pod of it would be: its token comes from a TokenRequest.
func (c *Cluster) Kubeconfig(ctx context.Context, file, namespace, name string) error {
	request, err := c.Client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name, &authv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("token of %s/%s: %w", namespace, name, err)
	}
	return WriteKubeconfig(file, c.admin.Host, c.path("apiserver.crt"), request.Status.Token)
}

// AdminKubeconfig writes a kubeconfig file with all rights.
func (c *Cluster) AdminKubeconfig(file string) error {
	return WriteKubeconfig(file, c.admin.Host, c.CertificateFile(), c.admin.BearerToken)
}

// CertificateFile is the file of the API server's certificate, which the
// kubeconfig files name.
func (c *Cluster) CertificateFile() string { return c.path("apiserver.crt") }

// WriteKubeconfig writes a kubeconfig file for a server, whose authority's
// certificate is in the file ca, and a token.
func WriteKubeconfig(file, server, ca, token string) error {
	config := api.NewConfig()
	config.Clusters["e2e"] = &api.Cluster{Server: server, CertificateAuthority: ca}
	config.AuthInfos["e2e"] = &api.AuthInfo{Token: token}
	config.Contexts["e2e"] = &api.Context{Cluster: "e2e", AuthInfo: "e2e"}
	config.CurrentContext = "e2e"
	if err := clientcmd.WriteToFile(*config, file); err != nil {
		return fmt.Errorf("kubeconfig: %w", err)
	}
	return nil
}

// Address is where the API server listens, as host:port.
func (c *Cluster) Address() string { return fmt.Sprintf("127.0.0.1:%d", c.port) }
