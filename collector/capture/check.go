package capture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// Magic is how many bytes a capture begins with that tell that it is one.
const Magic = 4

// Recognize reports whether a file that begins with b is a capture or is compressed by gzip,
// and whether more bytes are needed to tell.
func Recognize(b []byte) (isCapture, undecided bool) {
	for _, magic := range magics {
		n := min(len(b), len(magic))
		if bytes.Equal(b[:n], magic[:n]) {
			if n == len(magic) {
				return true, false
			}
			undecided = true
		}
	}
	return false, undecided
}

var magics = [][]byte{
	binary.BigEndian.AppendUint32(nil, pcapMicro), binary.BigEndian.AppendUint32(nil, pcapNano),
	binary.LittleEndian.AppendUint32(nil, pcapMicro), binary.LittleEndian.AppendUint32(nil, pcapNano),
	binary.BigEndian.AppendUint32(nil, ngSectionHeader),
	{0x1f, 0x8b}, // gzip
}

// Check returns an error that says why a file is no capture, by its first bytes. It looks only
// into files: to read from a named pipe would take what is in it.
func Check(path string) error {
	info, err := os.Stat(path)
	missing := (*os.PathError)(nil)
	switch {
	case errors.As(err, &missing):
		return fmt.Errorf("%s: %w", path, missing.Err)
	case err != nil:
		return err
	case info.IsDir():
		return fmt.Errorf("%s is a directory; give a capture in it", path)
	case !info.Mode().IsRegular():
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var b [Magic]byte
	n, err := io.ReadFull(f, b[:])
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	isCapture, _ := Recognize(b[:n])
	switch {
	case isCapture:
		return nil
	case n == 0:
		return fmt.Errorf("%s is empty; give a pcap or pcapng file, also compressed by gzip", path)
	case b[0] == '{':
		return fmt.Errorf("%s is no capture but looks like JSON; give records on standard input: kube-enricher - < %[1]s", path)
	}
	return fmt.Errorf("%s is no capture: it begins with %x; give a pcap or pcapng file, also compressed by gzip", path, b[:n])
}
