package main

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Timers of a testing/synctest bubble share one context of the race detector, which two threads
// may use at once. It notices by an assertion of its own, and the process ends. That is a fault
// of the runtime, golang/go#78156, which go 1.26.8 has: the tests are not to blame, and they are
// run again. They are not run without the race detector, which would find nothing then.
const (
	assertion = "ThreadSanitizer: CHECK failed"
	// maxTries bounds how often a package is tested. It happens once in some 15 runs of all.
	maxTries = 3
)

// packageState is how the tests of a package went.
type packageState struct {
	asserted bool // the race detector's assertion ended them
	failed   bool // the package is not good
	ofItself bool // a test failed, or raced
}

// fault matches what a test prints if it is to blame.
var fault = regexp.MustCompile(`^\s*--- FAIL: |^WARNING: DATA RACE|^panic: |^fatal error: `)

// note notes what an event says about its package.
func (r *report) note(e event) {
	asserted, ofItself := strings.Contains(e.Output, assertion), fault.MatchString(e.Output)
	failed := e.Action == "fail" && e.Test == ""
	if !asserted && !ofItself && !failed {
		return
	}
	s := r.states[e.Package]
	if s == nil {
		s = new(packageState)
		r.states[e.Package] = s
	}
	s.asserted = s.asserted || asserted
	s.ofItself = s.ofItself || ofItself
	s.failed = s.failed || failed
}

// takeBroken returns the packages to be tested again, and forgets what is known of them. There is
// none if another package failed, or a build.
func (r *report) takeBroken() (packages []string) {
	for _, name := range slices.Sorted(maps.Keys(r.states)) {
		s := r.states[name]
		switch {
		case s.failed && s.asserted && !s.ofItself:
			packages = append(packages, name)
		case s.failed:
			return nil
		}
	}
	clear(r.states)
	return packages
}

// packagePath matches packages among the arguments of go test: relative paths, and those that
// begin with a domain.
var packagePath = regexp.MustCompile(`^(\.|\.\.\.|\./.*|[a-z0-9.-]+\.[a-z]+/.*)$`)

// withPackages replaces the packages among the arguments of go test.
func withPackages(args, packages []string) []string {
	return append(slices.DeleteFunc(args, packagePath.MatchString), packages...)
}
