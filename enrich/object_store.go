package enrich

import (
	"cmp"
	"slices"

	"k8s.io/client-go/tools/cache"
)

// objectStore is what a reflector of client-go puts objects into: the part that is the same for all
// kinds. It makes a small object of each whole one, and calls the functions with that. Its methods
// run in the reflector's goroutine.
type objectStore struct {
	convert        func(any) (*object, error) // of a whole object, or of a small one
	update, remove func(*object)
	replace        func([]*object)
	bookmark       func()
}

// listed is an object that a reflector keeps until its list is complete, and beyond: until Replace
// has returned. Replace takes the object out, so that it can be freed as soon as the store has it.
type listed struct{ obj *object }

// Transformer implements [cache.TransformingStore].
func (s *objectStore) Transformer() cache.TransformFunc {
	return func(o any) (any, error) {
		obj, err := s.convert(o)
		return &listed{obj}, err
	}
}

// Add implements [cache.ReflectorStore].
func (s *objectStore) Add(o any) error { return s.Update(o) }

// Update implements [cache.ReflectorStore].
func (s *objectStore) Update(o any) error {
	obj, err := s.convert(o)
	if err == nil {
		s.update(obj)
	}
	return err
}

// Delete implements [cache.ReflectorStore].
func (s *objectStore) Delete(o any) error {
	obj, err := s.convert(o)
	if err == nil {
		s.remove(obj)
	}
	return err
}

// Replace implements [cache.ReflectorStore]. A reflector that streamed the list has it in a random
// order. The server's is by namespace and name, in which the objects were allocated: freed one by
// one in that order, they leave whole pages free for what the store makes of them. In another order
// each page has some left until the end, and 50,000 pods take 15 MiB more at the peak.
func (s *objectStore) Replace(list []any, _ string) error {
	items := make([]*object, len(list))
	for i, o := range list {
		if l, ok := o.(*listed); ok {
			items[i], l.obj = l.obj, nil
			continue
		}
		obj, err := s.convert(o)
		if err != nil {
			return err
		}
		items[i], list[i] = obj, nil
	}
	slices.SortFunc(items, func(a, b *object) int {
		return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.name, b.name))
	})
	s.replace(items)
	return nil
}

// Resync implements [cache.ReflectorStore].
func (*objectStore) Resync() error { return nil }

// Bookmark implements [cache.ReflectorBookmarkStore].
func (s *objectStore) Bookmark(string) error {
	s.bookmark()
	return nil
}
