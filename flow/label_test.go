package flow

import (
	"slices"
	"strings"
	"testing"
)

func TestParseLabels(t *testing.T) {
	got, err := ParseLabels("app.kubernetes.io/name=App, tier=TierName,,k8s-app=x_1")
	want := []Label{{"app.kubernetes.io/name", "App", "app"}, {"tier", "TierName", "tier_name"}, {"k8s-app", "x_1", "x_1"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	for _, s := range []string{"", ",", "app", "app=", "=App", "app=A-B", "app=1A", "a b=A", "-app=A", "app=\"", "a=A,b=A", "a=AppName,b=app_name",
		"a=Pod", "a=pod", "a=HostIP", "a=host_ip", "a=Status", "a=A=B", strings.Repeat("a=A,", 2)} {
		if got, err := ParseLabels(s); err == nil {
			t.Errorf("%q: %q", s, got)
		}
	}
	var many []string
	for i := range MaxLabels + 1 {
		many = append(many, "a=A"+strings.Repeat("x", i))
	}
	if _, err := ParseLabels(strings.Join(many, ",")); err == nil {
		t.Error("more than MaxLabels")
	}
}

func TestObjectLabels(t *testing.T) {
	o := NewObject(Object{Kind: "Pod", Labels: JoinLabels([]string{"", "web", "", "a\nb", ""})})
	for i, want := range []string{"", "web", "", "a b", "", ""} {
		if got := o.Attr(AttrLabel + Attr(i)); got != want {
			t.Errorf("label %d: %q, want %q", i, got, want)
		}
	}
	if !o.Plain() || JoinLabels(make([]string, 3)) != "" {
		t.Error("not plain, or not empty")
	}
	if NewObject(Object{Labels: "a\n\"b"}).Plain() {
		t.Error("plain")
	}
	if n := testing.AllocsPerRun(100, func() { o.Attr(AttrLabel + 3) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
