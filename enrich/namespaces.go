package enrich

import (
	"context"
	"errors"
	"fmt"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// scope is one of several namespaces that a watcher lists and watches as if they were one list and
// one watch. The reflector knows one version of all objects. A watch of each namespace begins where
// its last one ended, which only the scope knows.
type scope struct {
	namespace string
	skipped   bool // its Role is missing
	warned    bool // that was logged

	mu      sync.Mutex      // guards what follows
	version string          // of its list, or of the last event that was handed on
	stream  watch.Interface // the watch that brings the version up to date; nil if none does
}

// begin makes a watch bring the version up to date, nil after a list.
func (s *scope) begin(stream watch.Interface, version string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stream, s.version = stream, version
}

// advance notes that an event of a watch was handed on. A watch that is not the newest changes
// nothing.
func (s *scope) advance(stream watch.Interface, ev watch.Event) {
	m, err := meta.Accessor(ev.Object)
	if err != nil || ev.Type == watch.Error {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stream == stream {
		s.version = m.GetResourceVersion()
	}
}

func (s *scope) lastVersion() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.version
}

// several reports whether the watcher lists and watches in several namespaces.
func (w *watcher) several() bool { return len(w.c.namespaces) > 1 && !w.kind.clusterScoped() }

// namespace returns the one namespace that the watcher lists and watches in, empty for all.
func (w *watcher) namespace() string {
	if len(w.c.namespaces) == 1 && !w.kind.clusterScoped() {
		return w.c.namespaces[0]
	}
	return ""
}

// listNamespaces lists all namespaces. One whose Role is missing is left out, if others are not.
func (w *watcher) listNamespaces(ctx context.Context, opts metav1.ListOptions) (*objectList, error) {
	if w.scopes == nil {
		for _, n := range w.c.namespaces {
			w.scopes = append(w.scopes, &scope{namespace: n})
		}
	}
	all := &objectList{}
	var missing error
	listed := false
	for _, s := range w.scopes {
		err := w.permit(ctx, "list", s.namespace)
		if s.skipped = apierrors.IsForbidden(err); s.skipped {
			missing = err
			w.warnSkipped(s)
			continue
		}
		if err != nil {
			return nil, err
		}
		if s.warned {
			s.warned = false
			w.c.log.WithField("resource", w.kind.resource()).WithField("namespace", s.namespace).Info("the right was granted")
		}
		for next := opts; ; {
			page, err := w.page(ctx, s.namespace, next)
			if err != nil {
				return nil, err
			}
			all.Items = append(all.Items, page.Items...)
			if next.Continue = page.Continue; next.Continue == "" {
				s.begin(nil, page.ResourceVersion)
				all.ResourceVersion, listed = page.ResourceVersion, true
				break
			}
		}
	}
	if !listed {
		return nil, missing
	}
	return all, nil
}

// warnSkipped logs, once, that a namespace is left out.
func (w *watcher) warnSkipped(s *scope) {
	if s.warned {
		return
	}
	s.warned = true
	log := w.c.log.WithField("resource", w.kind.resource()).WithField("namespace", s.namespace)
	message := fmt.Sprintf("no right to list %s in namespace %s, which is left out; bind the Role there", w.kind.resource(), s.namespace)
	if w.kind.optional() {
		log.Info(message)
		return
	}
	log.Warn(message)
}

// watchNamespaces begins a watch of all namespaces. If a namespace that was left out need not be any
// more, its error makes the reflector list again.
func (w *watcher) watchNamespaces(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	streams := make(map[*scope]watch.Interface, len(w.scopes))
	stop := func() {
		for _, s := range streams {
			s.Stop()
		}
	}
	for _, s := range w.scopes {
		if s.skipped {
			if w.permit(ctx, "list", s.namespace) == nil {
				stop()
				return nil, apierrors.NewResourceExpired("a namespace may be listed now")
			}
			continue
		}
		err := w.permit(ctx, "watch", s.namespace)
		if err == nil {
			var stream watch.Interface
			opts.ResourceVersion = s.lastVersion()
			if stream, err = w.stream(ctx, s.namespace, opts); err == nil {
				s.begin(stream, opts.ResourceVersion)
				streams[s] = stream
			}
		}
		if err != nil {
			stop()
			return nil, err
		}
	}
	if len(streams) == 0 {
		return nil, errors.New("no namespace to watch")
	}
	return w.merge(streams), nil
}

// merge makes one watch of several. It ends when the first of them does.
func (w *watcher) merge(streams map[*scope]watch.Interface) watch.Interface {
	events := make(chan watch.Event)
	to := watch.NewProxyWatcher(events)
	ended := make(chan struct{})
	end := sync.OnceFunc(func() { close(ended) })
	var wg sync.WaitGroup
	for s, from := range streams {
		wg.Go(func() {
			defer end()
			defer from.Stop()
			for {
				var ev watch.Event
				var ok bool
				select {
				case ev, ok = <-from.ResultChan():
				case <-ended:
				case <-to.StopChan():
				}
				if !ok {
					return
				}
				select {
				case events <- ev:
				case <-ended:
					return // the next watch has it again
				case <-to.StopChan():
					return
				}
				s.advance(from, ev)
			}
		})
	}
	w.streams.Go(func() {
		wg.Wait()
		close(events)
	})
	return to
}
