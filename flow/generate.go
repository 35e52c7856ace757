//go:build ignore

// Command generate writes what is made of the tables of fields: see package
// flow/internal/gen. "go generate ./flow" runs it, in the directory flow.
package main

import (
	"log"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/netobserv/goflow2-kube-enricher/flow/internal/gen"
)

func main() {
	// The Go code of flow.proto comes next, so nothing is written without protoc.
	if _, err := exec.LookPath("protoc"); err != nil {
		log.Fatal("protoc is missing: install it (Debian: protobuf-compiler), then run again")
	}
	files, err := gen.Files()
	if err != nil {
		log.Fatal(err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join("..", name), content, 0o644); err != nil {
			log.Fatal(err)
		}
	}
}
