// Package proc runs child processes that cannot be left behind.
package proc

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"
)

// Process is a running child. It is reaped as soon as it ends.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // what Wait said; valid once done is closed
}

// Start starts cmd. Where the system can do it, the child dies with its parent.
func Start(cmd *exec.Cmd) (*Process, error) {
	dieWithParent(cmd)
	p := &Process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// To Linux the parent is the thread that forked: keep it alive.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return p, nil
}

// Done is closed when the child has ended and all its output is read.
func (p *Process) Done() <-chan struct{} { return p.done }

// Running reports whether the child is still running.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Err is how the child ended, nil for exit code 0. It waits for the end.
func (p *Process) Err() error {
	<-p.done
	return p.err
}

// ExitCode is the child's exit code, -1 if a signal ended it. It waits for the end.
func (p *Process) ExitCode() int {
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}

// Signal sends sig to the child; that it has ended already is no error.
func (p *Process) Signal(sig os.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s: %w", p.cmd.Path, err)
	}
	return nil
}

// Stop sends sig, waits for the end and kills the child when grace has passed,
// which it reports as an error.
func (p *Process) Stop(sig os.Signal, grace time.Duration) error {
	if err := p.Signal(sig); err != nil {
		return err
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
	}
	err := p.Signal(os.Kill)
	<-p.done
	return errors.Join(fmt.Errorf("%s still ran %s after %s", p.cmd.Path, grace, sig), err)
}

// Ports below the range from which systems take the ports of outgoing
// connections: one that was found free stays free until the child binds it.
const firstPort, lastPort = 20000, 30000

var (
	portMu   sync.Mutex
	nextPort = firstPort + os.Getpid()*37%(lastPort-firstPort)
)

// FreePort finds a port on 127.0.0.1 that is free for both TCP and UDP. It does
// not return the same one twice.
func FreePort() (int, error) {
	portMu.Lock()
	defer portMu.Unlock()
	for range lastPort - firstPort {
		port := nextPort
		if nextPort++; nextPort == lastPort {
			nextPort = firstPort
		}
		if free(port) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no free port from %d to %d", firstPort, lastPort)
}

func free(port int) bool {
	ip := net.IPv4(127, 0, 0, 1)
	tcp, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: ip, Port: port})
	if err != nil {
		return false
	}
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: ip, Port: port})
	if err == nil {
		err = udp.Close()
	}
	return errors.Join(err, tcp.Close()) == nil
}
