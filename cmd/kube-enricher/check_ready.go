package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	// readyPatience is how long a program may take to become ready.
	readyPatience = 30 * time.Second
	// readyPause is the time between two questions.
	readyPause = time.Second
	// maxReadyBody bounds what is read of an answer, in bytes.
	maxReadyBody = 64 << 10
)

// checkReady is -check.ready: it asks a running program until it is ready, and prints its answer.
// The error has the last answer.
func checkReady(ctx context.Context, stdout io.Writer, url string) error {
	ctx, cancel := context.WithTimeout(ctx, readyPatience)
	defer cancel()
	for {
		body, err := askReady(ctx, url)
		if err == nil {
			_, err = fmt.Fprintf(stdout, "ready: %s: %s\n", url, body)
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready within %v: %w", readyPatience, err)
		case <-time.After(readyPause):
		}
	}
}

// askReady asks once. The error is nil if the answer is that the program is ready.
func askReady(ctx context.Context, url string) (body string, err error) {
	ctx, cancel := context.WithTimeout(ctx, readyPatience/6)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(io.LimitReader(answer.Body, maxReadyBody))
	if err != nil {
		return "", err
	}
	body = strings.TrimSpace(string(b))
	if answer.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s answers %s: %s", url, answer.Status, body)
	}
	return body, nil
}
