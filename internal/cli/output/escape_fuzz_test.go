package output

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"unicode"
)

// FuzzEscapeJSON: escaping changes nothing of what JSON means, and leaves nothing that steers a terminal.
func FuzzEscapeJSON(f *testing.F) {
	for _, s := range []string{`{"a":"\u001b[2J"}`, "[\"\u009b31m\u202e\U000e0041\"]", `"é日本🙂"`, "{\r\n\t\"a\": 1}", `""`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		var before, after any
		if json.Unmarshal(content, &before) != nil {
			return
		}
		safe := EscapeJSON(content)
		if err := json.Unmarshal(safe, &after); err != nil || !reflect.DeepEqual(before, after) {
			t.Errorf("%q became %q: %v", content, safe, err)
		}
		for _, r := range string(safe) {
			if r != '\n' && r != '\t' && !unicode.IsPrint(r) {
				t.Errorf("%q is left in %q", r, safe)
			}
		}
		if !bytes.Equal(EscapeJSON(safe), safe) {
			t.Errorf("%q is escaped twice", safe)
		}
	})
}
