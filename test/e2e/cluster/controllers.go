package cluster

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
)

// WithControllers runs kube-controller-manager and kube-scheduler, and kwok in
// place of kubelets: pods of nodes that a test makes run at once, without
// anything in them. They have addresses of the ranges in their node's podCIDRs.
// More of kwok's stages can be given by their files.
func WithControllers(stages ...string) Option {
	return func(c *Cluster) { c.controllers, c.stages = true, stages }
}

func (c *Cluster) startControllers() error {
	kubeconfig := c.path("admin.kubeconfig")
	if err := c.AdminKubeconfig(kubeconfig); err != nil {
		return err
	}
	kwok, err := ModuleDir(".", "sigs.k8s.io/kwok")
	if err != nil {
		return err
	}
	args := []string{"--kubeconfig=" + kubeconfig, "--manage-all-nodes", "--node-lease-duration-seconds=40"}
	for _, stage := range append([]string{
		"node/fast/node-initialize.yaml", "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
		"pod/fast/pod-ready.yaml", "pod/fast/pod-delete.yaml", // but jobs' pods are not to end at once
	}, c.stages...) {
		if !filepath.IsAbs(stage) {
			stage = filepath.Join(kwok, "kustomize", "stage", stage)
		}
		args = append(args, "--config="+stage)
	}
	for _, cmd := range []*exec.Cmd{
		exec.Command(c.executable("kube-controller-manager"), "--kubeconfig="+kubeconfig, "--leader-elect=false", "--secure-port=0",
			"--service-account-private-key-file="+c.path("sa.key"), "--root-ca-file="+c.path("apiserver.crt")),
		exec.Command(c.executable("kube-scheduler"), "--kubeconfig="+kubeconfig, "--leader-elect=false", "--secure-port=0"),
		exec.Command(c.executable("kwok"), args...),
	} {
		p, err := c.startLogged(cmd, filepath.Base(cmd.Path)+".log")
		if err != nil {
			return err
		}
		c.others = append(c.others, p)
	}
	return nil
}

// ModuleDir returns where the files of a module are that the module in dir
// requires.
func ModuleDir(dir, module string) (string, error) {
	cmd := exec.Command("go", "mod", "download", "-json", module)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("module %s: %w\n%s", module, err, out)
	}
	var answer struct{ Dir string }
	if err := json.Unmarshal(out, &answer); err != nil {
		return "", fmt.Errorf("module %s: %w", module, err)
	}
	return answer.Dir, nil
}
