package transport

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"google.golang.org/protobuf/encoding/protowire"
)

const (
	// maxTornScan is how long a file may be to be looked through for a torn end, in bytes.
	// It takes some seconds.
	maxTornScan = 4 << 30
	// tornBuffer bounds what is read at once, and a message of which the fields are looked
	// at, in bytes.
	tornBuffer = 1 << 20
	// maxMessage is how long a message may be, in bytes: more than any record is.
	maxMessage = 64 << 20
)

// cutTornEnd cuts off the part of a message, with its length before it, that a program
// which was killed left at the end of a file. What is appended behind it could not be
// read. It returns how many bytes it cut, and an error if the file is not of whole
// messages otherwise. It leaves such a file as it is.
func cutTornEnd(file *os.File, size int64) (int64, error) {
	if size > maxTornScan {
		return 0, errors.New("it is too long to be looked through; have it rotated")
	}
	r, err := os.Open(file.Name())
	if err != nil {
		return 0, err
	}
	defer r.Close()
	end, err := endOfMessages(io.LimitReader(r, size), size)
	if err != nil || end == size {
		return 0, err
	}
	return size - end, file.Truncate(end)
}

// endOfMessages returns where the last whole message in r ends. r has size bytes. They are
// messages with their lengths before them, as varints; the last one may be cut, or be
// zeros, which file systems may leave after a power failure. It returns an error if there
// is anything else.
func endOfMessages(r io.Reader, size int64) (end int64, err error) {
	b := bufio.NewReaderSize(r, tornBuffer)
	for {
		prefix, err := b.Peek(binary.MaxVarintLen64)
		if err != nil && !errors.Is(err, io.EOF) {
			return end, err
		}
		if len(prefix) == 0 {
			return end, nil
		}
		length, n := binary.Uvarint(prefix)
		switch {
		case n < 0 || n == 0 && len(prefix) == binary.MaxVarintLen64 || length > maxMessage:
			return end, notMessages(end)
		case n == 0 || int64(length) > size-end-int64(n):
			return end, nil // cut
		case length == 0:
			if !restIsZero(b) {
				return end, notMessages(end)
			}
			return end, nil
		case length+uint64(n) <= tornBuffer:
			message, err := b.Peek(n + int(length))
			if err != nil {
				return end, err
			}
			if !wholeFields(message[n:]) {
				return end, notMessages(end)
			}
		}
		if _, err := b.Discard(n + int(length)); err != nil {
			return end, err
		}
		end += int64(n) + int64(length)
	}
}

func notMessages(offset int64) error {
	return fmt.Errorf("at offset %d there is no message: what is appended can be read only apart from the part before; move the file away", offset)
}

// wholeFields reports whether b is made of fields of a protobuf message.
func wholeFields(b []byte) bool {
	for len(b) > 0 {
		_, _, n := protowire.ConsumeField(b)
		if n < 0 {
			return false
		}
		b = b[n:]
	}
	return true
}

// restIsZero reports whether only zeros are left in b.
func restIsZero(b *bufio.Reader) bool {
	for {
		c, err := b.ReadByte()
		if err != nil {
			return errors.Is(err, io.EOF)
		}
		if c != 0 {
			return false
		}
	}
}
