//go:build ignore

// Command generate writes what is made of the tables of fields: see package
// flow/internal/gen. "go generate ./flow" runs it, in the directory flow.
package main

import (
	"log"
	"os"
	"path/filepath"

	"github.com/netobserv/goflow2-kube-enricher/flow/internal/gen"
)

func main() {
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
