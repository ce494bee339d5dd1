package hostile

import (
	"archive/tar"
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/unit"
	"github.com/pelletier/go-toml/v2"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"slipway.dev/slipway/internal/step"
)

// leaf is one value that somebody on a host reads: where it is, of what type, and what it says.
type leaf struct{ where, kind, value string }

// shape is everything that is read, in no order. Two inputs that differ in one string give two shapes that differ in
// that string and in nothing else; anything more, or less, is an injection.
type shape []leaf

func (s *shape) add(where, kind, value string) { *s = append(*s, leaf{where, kind, value}) }

// value adds a decoded document.
func (s *shape) value(where string, v any) {
	switch v := v.(type) {
	case map[string]any:
		s.add(where, "keys", fmt.Sprint(len(v)))
		for key, inner := range v {
			s.value(where+"."+key, inner)
		}
	case []any:
		s.add(where, "items", fmt.Sprint(len(v)))
		for _, inner := range v {
			s.value(where+"[]", inner)
		}
	case string:
		var inner any
		if strings.HasSuffix(where, ".json") && json.Unmarshal([]byte(v), &inner) == nil {
			s.value(where, inner)
			return
		}
		if !strings.HasSuffix(where, ".kubeletExtraArgs[].value") {
			s.add(where, "string", v)
			return
		}
		// kubeadm puts the arguments into one line, which systemd takes apart at blanks, and the kubelet at commas.
		for _, word := range strings.Fields(v) {
			for part := range strings.SplitSeq(word, ",") {
				s.add(where, "argument", part)
			}
		}
	default:
		s.add(where, fmt.Sprintf("%T", v), fmt.Sprint(v))
	}
}

// file adds a file as the program that reads it takes it apart.
func (s *shape) file(name string, content []byte) error {
	where, kind := "file "+name, path.Ext(name)
	if strings.HasPrefix(name, "/etc/kubernetes/") && kind == ".conf" {
		kind = ".yaml" // a kubeconfig
	}
	if name == step.HostsPath {
		s.lines(where, content)
		return nil
	}
	switch kind {
	case ".toml":
		var v map[string]any
		if err := toml.Unmarshal(content, &v); err != nil {
			return err
		}
		s.value(where, v)
	case ".yaml":
		return s.documents(where, content)
	case ".conflist", ".json":
		var v any
		if err := json.Unmarshal(content, &v); err != nil {
			return err
		}
		s.value(where, v)
	case ".service":
		return s.unit(where, content)
	case ".conf", ".sources":
		if bytes.HasPrefix(content, []byte("[")) {
			return s.unit(where, content)
		}
		s.lines(where, content)
	default:
		s.add(where, "content", string(content))
	}
	return nil
}

// documents takes YAML apart as kubeadm does.
func (s *shape) documents(where string, content []byte) error {
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(content)))
	for n := 0; ; n++ {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			s.add(where, "documents", fmt.Sprint(n))
			return nil
		}
		if err != nil {
			return err
		}
		var v any
		if err := yaml.UnmarshalStrict(document, &v); err != nil {
			return err
		}
		s.value(fmt.Sprintf("%s %d", where, n), v)
	}
}

func (s *shape) unit(where string, content []byte) error {
	options, err := unit.Deserialize(bytes.NewReader(content))
	if err != nil {
		return err
	}
	for _, o := range options {
		for _, word := range strings.Fields(o.Value) {
			s.add(where+" ["+o.Section+"]"+o.Name, "word", word)
		}
	}
	return nil
}

// lines takes a file apart that holds words in lines: chrony's, sysctl's and that of the kernel's modules.
func (s *shape) lines(where string, content []byte) {
	for n, line := range strings.Split(string(content), "\n") {
		for _, word := range strings.Fields(line) {
			s.add(fmt.Sprintf("%s line %d", where, n), "word", word)
		}
	}
}

// stdin takes input apart as the program that gets it does.
func (s *shape) stdin(where string, c run) error {
	switch {
	case len(c.stdin) == 0:
	case c.argv[0] == "tar" || slices.Contains(c.argv, "import"):
		return s.archive(where, c.stdin)
	case c.argv[0] == "xargs" && slices.Contains(c.argv, "-0"):
		for item := range strings.SplitSeq(string(c.stdin), "\x00") {
			s.add(where, "item", item)
		}
	default:
		s.add(where, "content", string(c.stdin))
	}
	return nil
}

// archive lists what is in a tar, and what its index says.
func (s *shape) archive(where string, content []byte) error {
	archive := tar.NewReader(bytes.NewReader(content))
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		s.add(where, "entry", fmt.Sprintf("%c %o %s", h.Typeflag, h.Mode, h.Name))
		if h.Name != "index.json" {
			continue
		}
		var v any
		if err := json.NewDecoder(archive).Decode(&v); err != nil {
			return err
		}
		s.value(where+" "+h.Name, v)
	}
}

// with gives the shape with every occurrence of one string replaced by another.
func (s shape) with(old, new string) shape {
	beforePort := regexp.MustCompile(regexp.QuoteMeta(old) + `:([0-9])`)
	replaced := make(shape, len(s))
	for i, l := range s {
		for _, in := range []*string{&l.where, &l.value} {
			if strings.Contains(new, ":") {
				// An IPv6 address stands in brackets before a port.
				*in = beforePort.ReplaceAllString(*in, "[\x00]:$1")
			}
			// The new one may hold the old one, which is not replaced again.
			*in = strings.ReplaceAll(strings.ReplaceAll(*in, old, "\x00"), "\x00", new)
		}
		replaced[i] = l
	}
	return replaced
}

// folded gives the shape with every run of blanks and line ends as one blank.
func (s shape) folded() shape {
	folded := make(shape, len(s))
	for i, l := range s {
		l.value = strings.Join(strings.Fields(l.value), " ")
		folded[i] = l
	}
	return folded
}

// diff gives what one shape has and the other has not.
func (s shape) diff(other shape) []leaf {
	left := map[leaf]int{}
	for _, l := range s {
		left[l]++
	}
	for _, l := range other {
		left[l]--
	}
	var only []leaf
	for l, n := range left {
		if n != 0 {
			only = append(only, l)
		}
	}
	slices.SortFunc(only, func(a, b leaf) int { return strings.Compare(a.where+a.value, b.where+b.value) })
	return only
}
