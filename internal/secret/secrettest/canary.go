// Package secrettest owns canaries: values that a test puts where secrets go, and then looks for everywhere else. It must
// never be part of the program, nor use the program's own redaction to look.
package secrettest

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// shortest is the length in bytes of the shortest value that stands for itself wherever it is found.
const shortest = 8

// Canaries are the values that must not be found, by what they are.
type Canaries map[string]string

// Mint makes a new value that is nowhere else, and gives it.
func (c Canaries) Mint(name string) string {
	c[name] = "canary-" + rand.Text()
	return c[name]
}

// Lines adds what a private key in PEM is made of.
func (c Canaries) Lines(name, key string) {
	for n, line := range strings.Split(strings.TrimSpace(key), "\n") {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "-----") && len(line) > 30 {
			c[fmt.Sprint(name, " line ", n)] = line
		}
	}
}

// form is one spelling of a value.
type form struct{ name, text string }

// Found names each canary that text holds, sorted, with the text before it. Each is looked for as it is, in base64 at any
// offset, and in hexadecimal. A value of less than 8 bytes is never found.
func (c Canaries) Found(text string) []string {
	// Most texts are large and hold nothing, so they are read once for all: two bytes say whether eight are compared.
	var starts [1 << 16]bool
	forms := map[string][]form{}
	for name, value := range c {
		for _, spelled := range spellings(value) {
			if len(spelled) >= shortest {
				starts[int(spelled[0])<<8|int(spelled[1])] = true
				forms[spelled[:shortest]] = append(forms[spelled[:shortest]], form{name, spelled})
			}
		}
	}
	found := map[string]string{}
	for i := 0; i+shortest <= len(text); i++ {
		if !starts[int(text[i])<<8|int(text[i+1])] {
			continue
		}
		for _, f := range forms[text[i:i+shortest]] {
			if found[f.name] == "" && strings.HasPrefix(text[i:], f.text) {
				found[f.name] = fmt.Sprintf("%s (behind %q)", f.name, text[max(0, i-80):i])
			}
		}
	}
	var names []string
	for _, said := range found {
		names = append(names, said)
	}
	slices.Sort(names)
	return names
}

func spellings(value string) []string {
	all := []string{value, hex.EncodeToString([]byte(value))}
	for skip := range 3 {
		if len(value) < skip+shortest {
			break
		}
		whole := []byte(value[skip:])
		whole = whole[:len(whole)-len(whole)%3]
		standard := base64.StdEncoding.EncodeToString(whole)
		all = append(all, standard)
		if url := base64.URLEncoding.EncodeToString(whole); url != standard {
			all = append(all, url)
		}
	}
	return all
}
