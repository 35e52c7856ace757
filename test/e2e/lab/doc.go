// Package lab makes small networks out of Linux network namespaces and Open
// vSwitch, for tests that want real packets. Everything belongs to a test, whose
// end removes it; what a killed test left behind, the next one removes.
//
// The namespaces of test/netns are not shared with these: that package is part
// of the main module, and the end-to-end tests reach into none of its packages.
package lab
