package cluster

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
)

const configureExample = `  # the audit log of the API servers, kept for 14 days
  slipway cluster configure demo --set components.apiServer.audit.enabled=true --set components.apiServer.audit.maxAge=14

  # a policy of your own, from a file
  slipway cluster configure demo --set-file components.apiServer.audit.policy=policy.yaml

  # lists are written as in YAML; what is unset has its default again
  slipway cluster configure demo --set 'endpoint.certSANs=[api.example.org, 198.51.100.7]' --unset components.logLevel

  # lines for /etc/hosts of every node, and a mirror of a registry
  slipway cluster configure demo --host-record "192.168.2.2 host1" --registry-mirror docker.io=https://mirror.example

  # nothing is changed: what was changed by hand on hosts is put back
  slipway cluster configure demo`

const configureLong = `Change settings of a cluster that runs. What would be done on each host is shown first, with what restarts, and done once it
is agreed to: on control planes one after another, each from a healthy etcd to a healthy etcd.

A setting is named by its path below spec, as slipway explain cluster.spec lists them. Without any, everything that the hosts
must have is looked at, and what was changed by hand is put back; slipway cluster drift only looks.

Settings of the API servers, the log level and the audit log restart what they concern: choose a quiet hour. With one control
plane the API is away for some seconds.`

// settingFlags are settings as the command line says them.
type settingFlags struct {
	sets, files, unsets, records, mirrors []string
}

func (f *settingFlags) add(flags *pflag.FlagSet) {
	flags.StringArrayVar(&f.sets, "set", nil, "setting, as PATH=VALUE below spec, the value in YAML; repeat")
	flags.StringArrayVar(&f.files, "set-file", nil, "setting whose text is in a file, as PATH=FILE; repeat")
	flags.StringArrayVar(&f.unsets, "unset", nil, "setting that has its default again, as PATH; repeat")
	flags.StringSliceVar(&f.records, "host-record", nil, "all lines for /etc/hosts of the nodes, as \"ADDRESS NAME NAME\"; repeat, or separate by commas")
	flags.StringArrayVar(&f.mirrors, "registry-mirror", nil, "all mirrors of registries, as REGISTRY=URL,URL; repeat")
}

// apply edits the spec.
func (f *settingFlags) apply(spec *v1alpha1.ClusterSpec) error {
	fields, err := fieldsOf(spec)
	if err != nil {
		return err
	}
	for _, text := range f.unsets {
		unstructured.RemoveNestedField(fields, strings.Split(text, ".")...)
	}
	for _, text := range f.files {
		path, file, ok := strings.Cut(text, "=")
		if !ok || path == "" {
			return output.Usagef("cannot read --set-file %q: it reads PATH=FILE", text)
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("cannot read the setting %s: %w", path, err)
		}
		if err := set(fields, path, string(content)); err != nil {
			return err
		}
	}
	for _, text := range f.sets {
		path, value, ok := strings.Cut(text, "=")
		if !ok || path == "" {
			return output.Usagef("cannot read --set %q: it reads PATH=VALUE", text)
		}
		var decoded any
		if err := yaml.Unmarshal([]byte(value), &decoded); err != nil {
			return output.Usagef("cannot read --set %q: the value is no YAML: %w", text, err)
		}
		if err := set(fields, path, decoded); err != nil {
			return err
		}
	}
	if err := f.lists(fields); err != nil {
		return err
	}
	b, err := json.Marshal(fields)
	if err != nil {
		return fmt.Errorf("cannot encode the settings: %w", err)
	}
	var changed v1alpha1.ClusterSpec
	if err := yaml.UnmarshalStrict(b, &changed); err != nil {
		return output.Refused("Invalid", "slipway explain cluster.spec lists the fields", "cannot set what was asked for: %w", err)
	}
	*spec = changed
	return nil
}

// lists are those that have flags of their own.
func (f *settingFlags) lists(fields map[string]any) error {
	var records, mirrors []any
	for _, text := range f.records {
		words := strings.Fields(text)
		if len(words) < 2 {
			return output.Usagef("cannot read --host-record %q: it reads \"ADDRESS NAME\", such as \"192.168.2.2 host1\"", text)
		}
		records = append(records, map[string]any{"address": words[0], "names": anys(words[1:])})
	}
	for _, text := range f.mirrors {
		registry, urls, ok := strings.Cut(text, "=")
		if !ok || registry == "" || urls == "" {
			return output.Usagef("cannot read --registry-mirror %q: it reads REGISTRY=URL,URL", text)
		}
		mirrors = append(mirrors, map[string]any{"registry": registry, "endpoints": anys(strings.Split(urls, ","))})
	}
	for path, list := range map[string][]any{"hostSetup.hostRecords": records, "runtime.registryMirrors": mirrors} {
		if len(list) == 0 {
			continue
		}
		if err := set(fields, path, list); err != nil {
			return err
		}
	}
	return nil
}

func anys(words []string) []any {
	var all []any
	for _, w := range words {
		all = append(all, w)
	}
	return all
}

// fieldsOf gives a spec as its fields.
func fieldsOf(spec *v1alpha1.ClusterSpec) (map[string]any, error) {
	b, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("cannot encode the settings: %w", err)
	}
	var fields map[string]any
	if err := json.Unmarshal(b, &fields); err != nil {
		return nil, fmt.Errorf("cannot encode the settings: %w", err)
	}
	return fields, nil
}

// set puts a value at a path. A member of a list is named by its number.
func set(fields map[string]any, path string, value any) error {
	parts := strings.Split(path, ".")
	var at any = fields
	for i, part := range parts {
		last := i == len(parts)-1
		switch holder := at.(type) {
		case map[string]any:
			if last {
				holder[part] = value
				return nil
			}
			if holder[part] == nil {
				holder[part] = map[string]any{}
			}
			at = holder[part]
		case []any:
			n, err := strconv.Atoi(part)
			if err != nil || n < 0 || n >= len(holder) {
				return output.Usagef("cannot set %s: %s is no number of a member of the list, which has %d", path, part, len(holder))
			}
			if last {
				holder[n] = value
				return nil
			}
			at = holder[n]
		default:
			return output.Usagef("cannot set %s: %s is no field that holds others", path, strings.Join(parts[:i], "."))
		}
	}
	return nil
}

func newConfigure(deps output.Deps, project *string) *cobra.Command {
	var f settingFlags
	var maxUnavailable int32
	cmd := &cobra.Command{
		Use:     "configure NAME",
		Short:   "Change settings of a cluster, or put back what was changed by hand",
		Long:    configureLong,
		Example: configureExample,
		Args:    output.Args(cobra.ExactArgs(1)),
	}
	f.add(cmd.Flags())
	cmd.Flags().Int32Var(&maxUnavailable, "max-unavailable", 1, "how many workers change at a time where kubelets restart")
	return proposed(cmd, deps, project, v1alpha1.VerbConfigure, func(spec *v1alpha1.ClusterSpec) (*v1alpha1.OperationParameters, error) {
		if maxUnavailable < 1 {
			return nil, output.Usagef("cannot configure %d workers at a time: give --max-unavailable 1 or more", maxUnavailable)
		}
		return &v1alpha1.OperationParameters{MaxUnavailable: maxUnavailable}, f.apply(spec)
	})
}
