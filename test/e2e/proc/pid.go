package proc

// Pid is the child's process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }
