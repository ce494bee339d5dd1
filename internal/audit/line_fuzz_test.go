package audit

import "testing"

// FuzzParse: a line of the audit log that somebody has written over makes nothing panic.
func FuzzParse(f *testing.F) {
	line, _, err := encode([]byte("key"), 1, [32]byte{}, Event{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	f.Add([]byte(`{"seq":1,"prev":"`))
	f.Add([]byte(`{"seq":18446744073709551616,"prev":"","event":,"hash":"","mac":""}`))
	f.Fuzz(func(_ *testing.T, line []byte) { parse(line) })
}
