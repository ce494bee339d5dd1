package backup

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
)

// A part is a line "NAME\n", then chunks, each a length of four bytes (big endian) and as many bytes; the length 0 ends
// it. So nothing has to be known before it has been read.

// maxChunk bounds one chunk.
const maxChunk = 1 << 20

// writePart writes a part and gives its size and digest.
func writePart(w io.Writer, name string, content io.Reader) (Part, error) {
	if _, err := io.WriteString(w, name+"\n"); err != nil {
		return Part{}, err
	}
	sum, size := sha256.New(), int64(0)
	buffer := make([]byte, 4+256<<10)
	for {
		n, err := io.ReadFull(content, buffer[4:])
		// Compared, not errors.Is: a source that was cut off wraps its error in cutOff.
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return Part{}, err
		}
		last := err != nil
		if n > 0 {
			binary.BigEndian.PutUint32(buffer, uint32(n))
			if _, err := w.Write(buffer[:4+n]); err != nil {
				return Part{}, err
			}
			sum.Write(buffer[4 : 4+n])
			size += int64(n)
		}
		if last {
			break
		}
	}
	_, err := w.Write(make([]byte, 4))
	return Part{Name: name, SHA256: hex.EncodeToString(sum.Sum(nil)), Size: size}, err
}

// partReader reads one part. It gives io.EOF at the part's end, and io.ErrUnexpectedEOF when the file ends before.
type partReader struct {
	name  string
	from  io.Reader
	left  uint32
	ended bool
	sum   hash.Hash
	size  int64
}

// nextPart begins the part of that name, which must be the next one.
func nextPart(from io.Reader, name string) (*partReader, error) {
	line := make([]byte, len(name)+1)
	if _, err := io.ReadFull(from, line); err != nil {
		return nil, fmt.Errorf("part %s is missing: %w", name, unexpected(err))
	}
	if string(line) != name+"\n" {
		return nil, fmt.Errorf("there is something else where part %s should begin", name)
	}
	return &partReader{name: name, from: from, sum: sha256.New()}, nil
}

func (p *partReader) Read(into []byte) (int, error) {
	if p.ended {
		return 0, io.EOF
	}
	if p.left == 0 {
		var length [4]byte
		if _, err := io.ReadFull(p.from, length[:]); err != nil {
			return 0, unexpected(err)
		}
		p.left = binary.BigEndian.Uint32(length[:])
		if p.left > maxChunk {
			return 0, fmt.Errorf("part %s has a chunk of %d bytes", p.name, p.left)
		}
		if p.left == 0 {
			p.ended = true
			return 0, io.EOF
		}
	}
	n, err := p.from.Read(into[:min(len(into), int(p.left))])
	p.left -= uint32(n)
	p.size += int64(n)
	p.sum.Write(into[:n])
	return n, unexpected(err)
}

// part describes what has been read.
func (p *partReader) part() Part {
	return Part{Name: p.name, SHA256: hex.EncodeToString(p.sum.Sum(nil)), Size: p.size}
}

// all reads the whole part, which must not be larger than limit.
func (p *partReader) all(limit int64) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(p, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(content)) > limit {
		return nil, fmt.Errorf("part %s is larger than %d bytes", p.name, limit)
	}
	return content, nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// source is a reader that ends with the context, and whose failures are never taken for its end: only io.EOF is.
type source struct {
	done func() error
	from io.Reader
}

func (s source) Read(into []byte) (int, error) {
	if err := s.done(); err != nil {
		return 0, err
	}
	n, err := s.from.Read(into)
	if err != nil && err != io.EOF {
		err = cutOff{err}
	}
	return n, err
}

// cutOff wraps the error of a source, so that comparing does not find io.ErrUnexpectedEOF, which libraries take for a
// short but good end.
type cutOff struct{ cause error }

func (c cutOff) Error() string { return c.cause.Error() }

func (c cutOff) Unwrap() error { return c.cause }
