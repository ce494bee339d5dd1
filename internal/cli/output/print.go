package output

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/yaml"
)

// Format is an output format.
type Format string

// The output formats.
const (
	FormatTable Format = ""
	FormatWide  Format = "wide"
	FormatJSON  Format = "json"
	FormatYAML  Format = "yaml"
	FormatName  Format = "name"
)

// FormatFlag adds -o to cmd for the formats, the table always among them, and gives where its value will be. Another
// value is an error of usage.
func FormatFlag(cmd *cobra.Command, formats ...Format) *Format {
	value := &formatValue{formats: formats}
	names := make([]string, len(formats))
	for i, f := range formats {
		names[i] = string(f)
	}
	cmd.Flags().VarP(value, "output", "o", "output format: "+strings.Join(names, ", "))
	return &value.format
}

type formatValue struct {
	format  Format
	formats []Format
}

func (v *formatValue) String() string { return string(v.format) }
func (v *formatValue) Type() string   { return "format" }
func (v *formatValue) Set(text string) error {
	if text != "table" && text != "" && !slices.Contains(v.formats, Format(text)) {
		return fmt.Errorf("use one of %v", v.formats)
	}
	v.format = Format(text)
	if text == "table" {
		v.format = FormatTable
	}
	return nil
}

// Machine says that programs read the format: nothing else may be printed among it.
func (f Format) Machine() bool { return f == FormatJSON || f == FormatYAML || f == FormatName }

// PrintValue prints v as JSON or YAML.
func PrintValue(w io.Writer, f Format, v any) error {
	content, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot print as %s: %w", f, err)
	}
	content = append(content, '\n')
	if f == FormatYAML {
		return printYAML(w, content)
	}
	_, err = w.Write(EscapeJSON(content))
	return err
}

// printYAML prints JSON as YAML, and where that would steer a terminal as JSON: it is YAML too, but for its escapes of
// pairs.
func printYAML(w io.Writer, content []byte) error {
	text, err := yaml.JSONToYAML(content)
	// The library refuses some control characters and prints others.
	if err != nil || !bytes.Equal(EscapeJSON(text), text) {
		text = escape(content, func(r rune) string { return fmt.Sprintf(`\U%08x`, r) })
	}
	_, err = w.Write(text)
	return err
}

// EscapeJSON gives the same JSON without anything that Clean takes away: such characters, which are in strings only,
// become escapes.
func EscapeJSON(content []byte) []byte {
	return escape(content, func(r rune) string {
		high, low := utf16.EncodeRune(r)
		return fmt.Sprintf(`\u%04x\u%04x`, high, low)
	})
}

// escape escapes what Clean takes away; wide gives the escape of a character above U+FFFF.
func escape(content []byte, wide func(rune) string) []byte {
	safe := make([]byte, 0, len(content))
	for rest := content; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		switch {
		case r == '\r':
			safe = append(safe, ' ') // It can only be between tokens.
		case r == '\n' || r == '\t' || unicode.IsPrint(r) && (r != utf8.RuneError || size > 1):
			safe = append(safe, rest[:size]...)
		case r > 0xffff:
			safe = append(safe, wide(r)...)
		default:
			safe = fmt.Appendf(safe, `\u%04x`, r)
		}
		rest = rest[size:]
	}
	return safe
}

// PrintObject prints one object as JSON, YAML or its name, as kubectl does.
func PrintObject(w io.Writer, f Format, object client.Object, kinds *runtime.Scheme) error {
	gvk, err := apiutil.GVKForObject(object, kinds)
	if err != nil {
		return fmt.Errorf("cannot print %s: %w", object.GetName(), err)
	}
	if f == FormatName {
		return printf(w, "%s.%s/%s\n", strings.ToLower(gvk.Kind), gvk.Group, object.GetName())
	}
	object.GetObjectKind().SetGroupVersionKind(gvk)
	object.SetManagedFields(nil)
	return PrintValue(w, f, object)
}

// PrintList prints a list as JSON, YAML or names, as kubectl does.
func PrintList(w io.Writer, f Format, list client.ObjectList, kinds *runtime.Scheme) error {
	items, err := meta.ExtractList(list)
	if err != nil {
		return fmt.Errorf("cannot print the list: %w", err)
	}
	for _, item := range items {
		object, ok := item.(client.Object)
		if !ok {
			return fmt.Errorf("cannot print the list: %T is no object", item)
		}
		gvk, err := apiutil.GVKForObject(object, kinds)
		if err != nil {
			return fmt.Errorf("cannot print %s: %w", object.GetName(), err)
		}
		object.GetObjectKind().SetGroupVersionKind(gvk)
		object.SetManagedFields(nil)
		if f == FormatName {
			if err := PrintObject(w, f, object, kinds); err != nil {
				return err
			}
		}
	}
	if f == FormatName {
		return nil
	}
	return PrintValue(w, f, &metav1.List{TypeMeta: metav1.TypeMeta{Kind: "List", APIVersion: "v1"}, Items: rawItems(items)})
}

func rawItems(items []runtime.Object) []runtime.RawExtension {
	raw := make([]runtime.RawExtension, len(items))
	for i, item := range items {
		raw[i] = runtime.RawExtension{Object: item}
	}
	return raw
}

// Table prints rows in columns, three spaces apart; the first row is the heading. Empty cells print as "-".
func Table(w io.Writer, indent string, rows ...[]string) error {
	widths := make([]int, 0, 8)
	cells := make([][]string, len(rows))
	for y, row := range rows {
		cells[y] = make([]string, len(row))
		for x, cell := range row {
			if cell = Line(cell); cell == "" {
				cell = "-"
			}
			cells[y][x] = cell
			if x == len(widths) {
				widths = append(widths, 0)
			}
			widths[x] = max(widths[x], utf8.RuneCountInString(cell))
		}
	}
	var text strings.Builder
	for _, row := range cells {
		text.WriteString(indent)
		for x, cell := range row {
			text.WriteString(cell)
			if x < len(row)-1 {
				text.WriteString(strings.Repeat(" ", widths[x]-utf8.RuneCountInString(cell)+3))
			}
		}
		text.WriteByte('\n')
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// Age gives the time since t in kubectl's words, such as 5m; "" for no time.
func Age(now time.Time, t metav1.Time) string {
	if t.IsZero() {
		return ""
	}
	return duration.HumanDuration(now.Sub(t.Time))
}

// Elapsed gives a duration for people in whole seconds, such as 54s or 2m10s.
func Elapsed(d time.Duration) string {
	return max(d, 0).Round(time.Second).String()
}

func printf(w io.Writer, format string, values ...any) error {
	_, err := fmt.Fprintf(w, format, values...)
	return err
}
