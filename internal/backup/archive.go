package backup

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"filippo.io/age"
)

const (
	// maxHeader bounds the plain line, maxSmall each part that is held in memory.
	maxHeader = 4 << 10
	maxSmall  = 16 << 20
)

// Write writes a backup to w and gives its manifest. The snapshot is streamed and checked on the way: one that was cut
// off makes no backup. After an error what was written is worthless. At least one recipient is needed.
func Write(ctx context.Context, w io.Writer, c Contents, recipients ...age.Recipient) (Manifest, error) {
	m, err := write(ctx, w, c, recipients)
	if err != nil {
		return Manifest{}, fmt.Errorf("cannot write the backup of cluster %s: %w", c.Facts.Cluster.Name, err)
	}
	return m, nil
}

func write(ctx context.Context, w io.Writer, c Contents, recipients []age.Recipient) (Manifest, error) {
	if err := c.check(); err != nil {
		return Manifest{}, err
	}
	c.Facts.TakenAt = c.Facts.TakenAt.UTC().Truncate(time.Second)
	m := Manifest{Format: Format, Facts: c.Facts}
	header, err := json.Marshal(m.header())
	if err != nil {
		return Manifest{}, err
	}
	if len(header) >= maxHeader {
		return Manifest{}, errors.New("the names of the cluster are too long")
	}
	m.HeaderSHA256 = digest(header)
	if _, err := w.Write(append(header, '\n')); err != nil {
		return Manifest{}, err
	}
	sealed, err := age.Encrypt(w, recipients...)
	if err != nil {
		return Manifest{}, err
	}
	for _, p := range []struct {
		name  string
		value any
	}{{partDescription, c.Description}, {partKeys, c.Keys}} {
		part, err := writeSmall(sealed, p.name, p.value)
		if err != nil {
			return Manifest{}, err
		}
		m.Parts = append(m.Parts, part)
	}
	checker := newSnapshotChecker()
	snapshot, err := writePart(sealed, partSnapshot, io.TeeReader(source{ctx.Err, c.Snapshot}, checker))
	if err == nil {
		err = checker.check()
	}
	if err != nil {
		return Manifest{}, err
	}
	m.Parts = append(m.Parts, snapshot)
	if _, err := writeSmall(sealed, partManifest, m); err != nil {
		return Manifest{}, err
	}
	return m, sealed.Close()
}

func writeSmall(w io.Writer, name string, value any) (Part, error) {
	content, err := json.Marshal(value)
	if err != nil {
		return Part{}, err
	}
	if len(content) > maxSmall {
		return Part{}, fmt.Errorf("part %s has %d bytes, more than %d", name, len(content), maxSmall)
	}
	return writePart(w, name, bytes.NewReader(content))
}

func (m Manifest) header() Header {
	return Header{Format: m.Format, Cluster: m.Cluster, TakenAt: m.TakenAt}
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// ReadHeader reads the plain line of a file, which says what the file claims to be. Nothing of it is proven.
func ReadHeader(r io.Reader) (Header, error) {
	h, _, err := readHeader(bufio.NewReaderSize(r, maxHeader))
	if err != nil {
		return Header{}, fmt.Errorf("cannot read the header of the backup: %w", err)
	}
	return h, nil
}

func readHeader(r *bufio.Reader) (Header, []byte, error) {
	line, err := r.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return Header{}, nil, errors.New("this is no backup: its first line is too long")
	case err != nil:
		return Header{}, nil, fmt.Errorf("the first line is cut off: %w", unexpected(err))
	}
	line = bytes.Clone(line[:len(line)-1])
	var h Header
	if err := json.Unmarshal(line, &h); err != nil {
		return Header{}, nil, errors.New("this is no backup: its first line does not say so")
	}
	if h.Format != Format {
		return Header{}, nil, fmt.Errorf("its format is %.60q, and this version of Slipway reads %s", h.Format, Format)
	}
	return h, line, nil
}

// Verify reads a whole file and proves everything about it: nothing was changed, is missing or was added, the plain line
// and the manifest agree, and the snapshot is a whole database. It gives the manifest only when all is well.
func Verify(ctx context.Context, r io.Reader, identities ...age.Identity) (Manifest, error) {
	m, _, _, err := read(ctx, r, io.Discard, identities)
	if err != nil {
		return Manifest{}, fmt.Errorf("cannot verify the backup: %w", err)
	}
	return m, nil
}

// read does the work of Verify. The snapshot goes to the writer before it is proven: it counts only without an error.
func read(ctx context.Context, r io.Reader, snapshot io.Writer, identities []age.Identity) (Manifest, Description, map[string][]byte, error) {
	fail := func(err error) (Manifest, Description, map[string][]byte, error) {
		return Manifest{}, Description{}, nil, err
	}
	file := bufio.NewReaderSize(source{ctx.Err, r}, 64<<10)
	header, line, err := readHeader(file)
	if err != nil {
		return fail(err)
	}
	open, err := age.Decrypt(file, identities...)
	if err != nil {
		return fail(decryptError(err))
	}
	var (
		description Description
		keys        map[string][]byte
		m           Manifest
		parts       []Part
	)
	if parts, err = readSmall(open, partDescription, &description, parts); err != nil {
		return fail(err)
	}
	if parts, err = readSmall(open, partKeys, &keys, parts); err != nil {
		return fail(err)
	}
	part, err := nextPart(open, partSnapshot)
	if err != nil {
		return fail(err)
	}
	checker := newSnapshotChecker()
	if _, err := io.Copy(io.MultiWriter(checker, snapshot), part); err != nil {
		return fail(fmt.Errorf("the snapshot cannot be read: %w", err))
	}
	parts = append(parts, part.part())
	if _, err = readSmall(open, partManifest, &m, nil); err != nil {
		return fail(err)
	}
	// Only here does age say whether the file was cut off or goes on behind its end.
	switch _, err := io.ReadFull(open, make([]byte, 1)); {
	case err == nil:
		return fail(errors.New("there is something behind the manifest"))
	case !errors.Is(err, io.EOF):
		return fail(err)
	}
	if err := m.agrees(header, line, parts); err != nil {
		return fail(err)
	}
	if err := errors.Join(description.check(), checkKeys(keys), checker.check()); err != nil {
		return fail(err)
	}
	return m, description, keys, nil
}

// agrees says that the manifest speaks of this plain line and of these parts.
func (m Manifest) agrees(h Header, line []byte, parts []Part) error {
	switch {
	case m.Format != Format:
		return fmt.Errorf("its manifest has the format %.60q", m.Format)
	case m.HeaderSHA256 != digest(line), m.Cluster != h.Cluster, !m.TakenAt.Equal(h.TakenAt):
		return errors.New("its first line and its manifest do not agree")
	case len(m.Parts) != len(parts):
		return errors.New("its manifest lists other parts")
	}
	for i, p := range parts {
		if m.Parts[i] != p {
			return fmt.Errorf("part %s is not the one of its manifest", p.Name)
		}
	}
	return m.Facts.check()
}

func readSmall(from io.Reader, name string, into any, parts []Part) ([]Part, error) {
	part, err := nextPart(from, name)
	if err != nil {
		return nil, err
	}
	content, err := part.all(maxSmall)
	if err != nil {
		return nil, fmt.Errorf("part %s cannot be read: %w", name, err)
	}
	if err := decode(content, into); err != nil {
		return nil, fmt.Errorf("part %s cannot be understood, it may be of a newer Slipway: %w", name, err)
	}
	return append(parts, part.part()), nil
}

// decryptError says in our words what age says about identities.
func decryptError(err error) error {
	var none *age.NoIdentityMatchError
	if errors.As(err, &none) {
		return errors.New("it was encrypted for another key: it belongs to another installation, or the key was replaced")
	}
	return fmt.Errorf("it is damaged: %w", err)
}
