package secret

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
)

const (
	// shortest is the length in bytes below which a value is left alone: masking "a" would destroy all text.
	shortest = 4
	// shortestLine is the same for single lines of a value with many lines.
	shortestLine = 16
	// shortestBase64 is the same for base64 from the middle of something longer.
	shortestBase64 = 8
)

// formsOf gives the texts in which values may show, each once. A value of many lines shows as its lines; that leaves
// only the marks of a PEM block and short lines.
func formsOf(values ...[]byte) []string {
	known := map[string]bool{}
	var forms []string
	add := func(form string, atLeast int) {
		if len(form) >= atLeast && !known[form] {
			known[form] = true
			forms = append(forms, form)
		}
	}
	for _, value := range values {
		value = bytes.TrimSpace(value)
		if len(value) < shortest || isPublic(value) {
			continue
		}
		for _, form := range base64Of(value) {
			add(form, shortestBase64)
		}
		if bytes.IndexByte(value, '\n') < 0 {
			for _, form := range spellings(string(value)) {
				add(form, shortest)
			}
			continue
		}
		for line := range bytes.Lines(value) {
			line = bytes.TrimSpace(line)
			if !bytes.HasPrefix(line, []byte("-----")) {
				add(string(line), shortestLine)
			}
		}
	}
	return forms
}

// isPublic says that a value is a certificate or a public key, which may be read by anyone.
func isPublic(value []byte) bool {
	return (bytes.HasPrefix(value, []byte("-----BEGIN CERTIFICATE-----")) || bytes.HasPrefix(value, []byte("-----BEGIN PUBLIC KEY-----"))) &&
		!bytes.Contains(value, []byte("PRIVATE KEY-----"))
}

// spellings gives the value as it is, and as quoting for Go, JSON and URLs makes it.
func spellings(value string) []string {
	quoted := strconv.Quote(value)
	forms := []string{value, quoted[1 : len(quoted)-1], url.QueryEscape(value), url.PathEscape(value)}
	for _, escape := range []bool{false, true} {
		var out strings.Builder
		encoder := json.NewEncoder(&out)
		encoder.SetEscapeHTML(escape)
		// A string always encodes.
		_ = encoder.Encode(value)
		forms = append(forms, strings.Trim(out.String(), "\"\n"))
	}
	return forms
}

// base64Of gives what all base64 texts have in common that hold the value: at its beginning, or behind one or two
// other bytes. What shares a character with a neighbour is left out, but for the value on its own.
func base64Of(value []byte) []string {
	var forms []string
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
		forms = append(forms, encoding.EncodeToString(value), encoding.WithPadding(base64.NoPadding).EncodeToString(value))
		for before := range 3 {
			skip := (3 - before) % 3
			if len(value) <= skip {
				continue
			}
			whole := value[skip:]
			forms = append(forms, encoding.EncodeToString(whole[:len(whole)-len(whole)%3]))
		}
	}
	return forms
}
