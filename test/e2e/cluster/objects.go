package cluster

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/restmapper"
)

// ReadObjects reads a YAML file of Kubernetes objects. Unknown and repeated
// fields are errors.
func ReadObjects(file string) ([]runtime.Object, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	decoder := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	var objects []runtime.Object
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: document %d: %w", file, len(objects)+1, err)
		}
		object, _, err := decoder.Decode(document, nil, nil)
		if err != nil {
			return nil, fmt.Errorf("%s: document %d: %w", file, len(objects)+1, err)
		}
		objects = append(objects, object)
	}
}

// Apply creates or changes an object as `kubectl apply --server-side` does,
// refusing fields that the API server does not know. An object without a
// namespace goes to namespace, if its kind has one. With dryRun nothing is kept.
func (c *Cluster) Apply(ctx context.Context, namespace string, object runtime.Object, dryRun bool) error {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	u := &unstructured.Unstructured{Object: fields}
	unstructured.RemoveNestedField(u.Object, "status")
	resource, err := c.resource(u.GroupVersionKind(), namespace, u.GetNamespace())
	if err != nil {
		return err
	}
	body, err := json.Marshal(u)
	if err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	force := true
	options := metav1.PatchOptions{FieldManager: "e2e", FieldValidation: metav1.FieldValidationStrict, Force: &force}
	if dryRun {
		options.DryRun = []string{metav1.DryRunAll}
	}
	if _, err := resource.Patch(ctx, u.GetName(), types.ApplyPatchType, body, options); err != nil {
		return fmt.Errorf("apply %s %s: %w", u.GetKind(), u.GetName(), err)
	}
	return nil
}

func (c *Cluster) resource(kind schema.GroupVersionKind, fallback, namespace string) (dynamic.ResourceInterface, error) {
	groups, err := restmapper.GetAPIGroupResources(c.Client.Discovery())
	if err != nil {
		return nil, fmt.Errorf("discovery: %w", err)
	}
	mapping, err := restmapper.NewDiscoveryRESTMapper(groups).RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return nil, fmt.Errorf("discovery: %w", err)
	}
	resource := c.Dynamic.Resource(mapping.Resource)
	if mapping.Scope.Name() != meta.RESTScopeNameNamespace {
		return resource, nil
	}
	if namespace == "" {
		namespace = fallback
	}
	return resource.Namespace(namespace), nil
}

// Dump returns what kubectl prints of all objects that a snapshot may hold.
func (c *Cluster) Dump(ctx context.Context) ([]byte, error) {
	config := c.path("kubectl.yaml")
	if err := WriteKubeconfig(config, c.admin.Host, c.path("apiserver.crt"), c.admin.BearerToken); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, "kubectl"), "--kubeconfig", config,
		"get", "pods,services,nodes,replicasets,jobs,replicationcontrollers", "-A", "-o", "yaml")
	cmd.Env = []string{"HOME=" + c.dir}
	text, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	if err != nil {
		return nil, fmt.Errorf("kubectl: %w", err)
	}
	return text, nil
}
