package audit

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Line is one line of the log. In the file its members stand in this order, and Hash is over every byte of the line
// before `,"hash":`.
type Line struct {
	// Seq counts the lines of this installation from 1.
	Seq uint64 `json:"seq"`
	// Prev is the Hash of the line before; zeros for the first line.
	Prev  string `json:"prev"`
	Event Event  `json:"event"`
	// Hash is a SHA-256 in hex: anyone can follow the chain.
	Hash string `json:"hash"`
	// MAC is the HMAC-SHA-256 of Hash under the key of this installation: only the server can go on with the chain.
	MAC string `json:"mac"`
}

const (
	hexSize  = 2 * sha256.Size
	opening  = `{"seq":`
	prevMark = `,"prev":"`
	bodyMark = `","event":`
	hashMark = `,"hash":"`
	macMark  = `","mac":"`
	closing  = `"}`
	endSize  = len(hashMark) + hexSize + len(macMark) + hexSize + len(closing)
)

// encode gives the line of an event, with its line end, and its hash.
func encode(key []byte, seq uint64, prev [sha256.Size]byte, e Event) ([]byte, [sha256.Size]byte, error) {
	var b bytes.Buffer
	b.Grow(512)
	b.WriteString(opening)
	b.Write(strconv.AppendUint(b.AvailableBuffer(), seq, 10))
	b.WriteString(prevMark)
	b.Write(hex.AppendEncode(b.AvailableBuffer(), prev[:]))
	b.WriteString(bodyMark)
	text := json.NewEncoder(&b)
	text.SetEscapeHTML(false)
	if err := text.Encode(e); err != nil {
		return nil, prev, fmt.Errorf("cannot write an event: %w", err)
	}
	b.Truncate(b.Len() - 1) // The encoder ends with a line end.
	hash := sha256.Sum256(b.Bytes())
	b.WriteString(hashMark)
	b.Write(hex.AppendEncode(b.AvailableBuffer(), hash[:]))
	b.WriteString(macMark)
	b.Write(hex.AppendEncode(b.AvailableBuffer(), sign(key, hash[:])))
	b.WriteString(closing + "\n")
	return b.Bytes(), hash, nil
}

func sign(key, hash []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(hash)
	return mac.Sum(nil)
}

// cut is a line taken apart where it stands, its event not decoded.
type cut struct {
	seq             uint64
	prev, hash, mac [sha256.Size]byte
	covered, event  []byte
}

// parse takes a line apart. It gives false for what does not have the form of one; see whole for the rest.
func parse(line []byte) (c cut, ok bool) {
	line = bytes.TrimSuffix(line, []byte("\n"))
	if len(line) < endSize {
		return cut{}, false
	}
	c.covered = line[:len(line)-endSize]
	end := line[len(line)-endSize:]
	rest, ok := bytes.CutPrefix(c.covered, []byte(opening))
	if !ok {
		return cut{}, false
	}
	number, rest, ok := bytes.Cut(rest, []byte(prevMark))
	if !ok || len(rest) < hexSize+len(bodyMark) || string(rest[hexSize:hexSize+len(bodyMark)]) != bodyMark {
		return cut{}, false
	}
	var err error
	if c.seq, err = strconv.ParseUint(string(number), 10, 64); err != nil {
		return cut{}, false
	}
	c.event = rest[hexSize+len(bodyMark):]
	marks := string(end[:len(hashMark)]) == hashMark && string(end[len(hashMark)+hexSize:len(hashMark)+hexSize+len(macMark)]) == macMark &&
		bytes.HasSuffix(end, []byte(closing))
	digests := unhex(&c.prev, rest[:hexSize]) && unhex(&c.hash, end[len(hashMark):]) && unhex(&c.mac, end[len(hashMark)+hexSize+len(macMark):])
	return c, marks && digests
}

func unhex(to *[sha256.Size]byte, text []byte) bool {
	_, err := hex.Decode(to[:], text[:hexSize])
	return err == nil
}

// whole says that the line's hash is that of its content.
func (c cut) whole() bool { return sha256.Sum256(c.covered) == c.hash }

// signed says that the line's MAC was made with the key.
func (c cut) signed(key []byte) bool { return hmac.Equal(sign(key, c.hash[:]), c.mac[:]) }

func (c cut) head() Head { return Head{Seq: c.seq, Hash: hex.EncodeToString(c.hash[:])} }

func (c cut) decode() (Event, error) {
	var e Event
	if err := json.Unmarshal(c.event, &e); err != nil {
		return e, fmt.Errorf("cannot read line %d: %w", c.seq, err)
	}
	return e, nil
}

// Head names a line by its number and its hash, and with it everything before.
type Head struct {
	Seq  uint64 `json:"seq"`
	Hash string `json:"hash"`
}

// String gives SEQ:HASH, for people to note down.
func (h Head) String() string { return fmt.Sprintf("%d:%s", h.Seq, h.Hash) }

// ParseHead reads SEQ:HASH.
func ParseHead(text string) (Head, error) {
	number, hash, ok := strings.Cut(strings.TrimSpace(text), ":")
	seq, err := strconv.ParseUint(number, 10, 64)
	if _, hexErr := hex.DecodeString(hash); !ok || err != nil || hexErr != nil || len(hash) != hexSize {
		return Head{}, fmt.Errorf("cannot read head %q: it is SEQ:HASH, as `slipway audit verify` prints it", text)
	}
	return Head{Seq: seq, Hash: strings.ToLower(hash)}, nil
}
