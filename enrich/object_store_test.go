package enrich

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// The store gets a list in the order in which the server sends it, whatever order the reflector has
// it in.
func TestListsAreInOrder(t *testing.T) {
	var want, got []string
	var list []any
	for _, namespace := range []string{"a", "a-b", "b"} {
		for i := range 100 {
			o := &object{kind: kindPod, namespace: namespace, name: fmt.Sprintf("pod-%03d", i)}
			want = append(want, o.namespace+" "+o.name)
			if i%2 == 0 { // one that the reflector has had transformed
				list = append(list, &listed{o})
				continue
			}
			list = append(list, o)
		}
	}
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	s := &objectStore{
		convert: func(o any) (*object, error) { return toObject(kindPod, o) },
		replace: func(objects []*object) {
			for _, o := range objects {
				got = append(got, o.namespace+" "+o.name)
			}
		},
	}
	if err := s.Replace(list, "1"); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
