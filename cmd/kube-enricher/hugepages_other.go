//go:build !linux

package main

import "context"

func useHugePages(context.Context) {}
