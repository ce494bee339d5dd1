package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"hash/fnv"
)

// An etcd snapshot is a bbolt database, always a multiple of 512 bytes, then the SHA-256 of it.
const (
	snapshotBlock = 512
	// metaMagic, metaVersion and metaFlag mark a meta page of bbolt; metaSize is its header and fields, metaSummed is how
	// many bytes of the fields the checksum after them covers.
	metaMagic   = 0xED0CDAED
	metaVersion = 2
	metaFlag    = 0x04
	pageHeader  = 16
	metaSummed  = 56
	metaSize    = pageHeader + metaSummed + 8
)

// snapshotChecker is an io.Writer that checks a snapshot that runs through it. It holds a few bytes of it.
type snapshotChecker struct {
	sum  hash.Hash
	head []byte
	// tail is the last 32 bytes so far, which are not in sum yet.
	tail []byte
	size int64
}

func newSnapshotChecker() *snapshotChecker { return &snapshotChecker{sum: sha256.New()} }

// Write never fails.
func (c *snapshotChecker) Write(b []byte) (int, error) {
	if missing := metaSize - len(c.head); missing > 0 {
		c.head = append(c.head, b[:min(missing, len(b))]...)
	}
	c.size += int64(len(b))
	if len(b) >= sha256.Size {
		c.sum.Write(c.tail)
		c.sum.Write(b[:len(b)-sha256.Size])
		c.tail = append(c.tail[:0], b[len(b)-sha256.Size:]...)
		return len(b), nil
	}
	c.tail = append(c.tail, b...)
	if over := len(c.tail) - sha256.Size; over > 0 {
		c.sum.Write(c.tail[:over])
		c.tail = append(c.tail[:0], c.tail[over:]...)
	}
	return len(b), nil
}

// check judges what has run through.
func (c *snapshotChecker) check() error {
	database := c.size - sha256.Size
	switch {
	case database <= 0 || database%snapshotBlock != 0:
		return errors.New("the snapshot is not a whole database with its checksum: it was cut off, or is no etcd snapshot")
	case !bytes.Equal(c.sum.Sum(nil), c.tail):
		return errors.New("the snapshot does not match its own checksum")
	}
	return checkMeta(c.head, database)
}

// checkMeta looks at the first meta page: it says that this is a database, and that all its pages are there.
func checkMeta(head []byte, size int64) error {
	if len(head) < metaSize {
		return errors.New("the snapshot is too short for a database")
	}
	little := binary.LittleEndian
	meta := head[pageHeader:]
	pageSize, pages := int64(little.Uint32(meta[8:])), little.Uint64(meta[40:])
	sum := fnv.New64a()
	sum.Write(meta[:metaSummed])
	switch {
	case little.Uint16(head[8:])&metaFlag == 0 || little.Uint32(meta) != metaMagic || little.Uint32(meta[4:]) != metaVersion:
		return errors.New("the snapshot is no database of etcd")
	case little.Uint64(meta[metaSummed:]) != sum.Sum64():
		return errors.New("the first page of the snapshot does not match its checksum")
	case pageSize < snapshotBlock || size%pageSize != 0 || pages > uint64(size/pageSize):
		return errors.New("the snapshot has fewer pages than its first page says")
	}
	return nil
}
