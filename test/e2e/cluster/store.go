package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path"

	etcd "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/kubernetes/scheme"
)

// storeBatch is how many objects are written at once: etcd takes 128.
const storeBatch = 100

// Store writes objects with their status into etcd, as the API server would
// store them, a hundred times faster than through it. The objects must be
// complete; the resource is as in etcd's keys ("services/specs", "minions").
func (c *Cluster) Store(ctx context.Context, resource string, count int, object func(i int) runtime.Object) error {
	client, err := etcd.New(etcd.Config{Endpoints: []string{c.etcdURL}, Context: ctx, DialTimeout: stopTimeout, Logger: zap.NewNop()})
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	defer func() { _ = client.Close() }()
	encoder := protobuf.NewSerializer(scheme.Scheme, scheme.Scheme)
	var batch []etcd.Op
	for i := range count {
		o := object(i)
		meta, ok := o.(metav1.Object)
		if !ok {
			return fmt.Errorf("store %s: %T has no metadata", resource, o)
		}
		var b bytes.Buffer
		var err error
		if u, ok := o.(*unstructured.Unstructured); !ok {
			err = encoder.Encode(o, &b)
		} else { // of a kind that a definition made known
			err = json.NewEncoder(&b).Encode(u.Object)
		}
		if err != nil {
			return fmt.Errorf("store %s: %w", resource, err)
		}
		key := path.Join("/registry", resource, meta.GetNamespace(), meta.GetName())
		batch = append(batch, etcd.OpPut(key, b.String()))
		if len(batch) < storeBatch && i < count-1 {
			continue
		}
		if _, err := client.Txn(ctx).Then(batch...).Commit(); err != nil {
			return fmt.Errorf("etcd: store %s: %w", resource, err)
		}
		batch = batch[:0]
	}
	return nil
}
