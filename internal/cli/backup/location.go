package backup

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
)

func newLocation(deps output.Deps) *cobra.Command {
	cmd := &cobra.Command{Use: "location", Aliases: []string{"locations"}, Short: "Say where backups are kept, and see whether they can be"}
	return output.Noun(cmd, newLocationAdd(deps), newLocationList(deps), newLocationRemove(deps))
}

const locationExample = `  # a directory on the server, or a share that is mounted there
  slipway backup location add local --directory /var/lib/slipway-backups

  # a bucket; the Secret has the keys accessKey and secretKey
  slipway backup location add offsite --endpoint https://s3.example.com:9000 --bucket slipway --secret s3-keys`

// place is what the flags say of a location.
type place struct {
	directory, endpoint, bucket, prefix, region, secret, caFile, description string
	virtual, insecure                                                        bool
}

func (p *place) spec() (v1alpha1.BackupLocationSpec, error) {
	spec := v1alpha1.BackupLocationSpec{Description: p.description}
	switch {
	case p.directory != "" && p.endpoint == "" && p.bucket == "":
		spec.Directory = &v1alpha1.DirectoryLocation{Path: p.directory}
		return spec, nil
	case p.directory != "" || p.endpoint == "" || p.bucket == "" || p.secret == "":
		return spec, output.Usagef("cannot tell where backups go: give --directory, or --endpoint, --bucket and --secret")
	}
	spec.S3 = &v1alpha1.S3Location{Endpoint: p.endpoint, Bucket: p.bucket, Prefix: p.prefix, Region: p.region, SecretName: p.secret, Insecure: p.insecure}
	if p.virtual {
		spec.S3.AddressStyle = v1alpha1.S3VirtualStyle
	}
	if p.caFile != "" {
		pem, err := os.ReadFile(p.caFile)
		if err != nil {
			return spec, output.Usagef("cannot read the certificates: %v", err)
		}
		spec.S3.CABundle = string(pem)
	}
	return spec, nil
}

func newLocationAdd(deps output.Deps) *cobra.Command {
	var p place
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:     "add NAME (--directory PATH | --endpoint URL --bucket NAME --secret NAME)",
		Short:   "Add a place where backups are kept, and wait until it was tried",
		Example: locationExample,
		Args:    output.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			spec, err := p.spec()
			if err != nil {
				return err
			}
			connection, err := deps.Connect("")
			if err != nil {
				return err
			}
			l := &v1alpha1.BackupLocation{ObjectMeta: metav1.ObjectMeta{Name: args[0]}, Spec: spec}
			if err := connection.Client.Create(cmd.Context(), l); err != nil {
				return fmt.Errorf("cannot add backup location %s: %w", l.Name, err)
			}
			ctx, cancel := limit(cmd.Context(), timeout)
			defer cancel()
			var found *metav1.Condition
			err = output.Watch(ctx, connection.Client, &v1alpha1.BackupLocationList{}, nil, func(all []*v1alpha1.BackupLocation) (bool, error) {
				for _, l := range all {
					found = meta.FindStatusCondition(l.Status.Conditions, v1alpha1.BackupLocationAvailable)
				}
				return found != nil, nil
			}, output.Named(l.Name))
			if err != nil {
				return output.WaitError(err, "the test of backup location "+l.Name, "slipway backup location list")
			}
			if found.Status != metav1.ConditionTrue {
				return output.Refused(found.Reason, "mend that; it is tried again every minute", "cannot keep backups in location %s: %s", l.Name, output.Line(found.Message))
			}
			_, err = fmt.Fprintf(deps.Streams.Out, "backup location %s can be used; lend it to a project: slipway grant add -p PROJECT --backup-location %s\n", l.Name, l.Name)
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&p.directory, "directory", "", "directory on the server's machine")
	flags.StringVar(&p.endpoint, "endpoint", "", "URL of an S3 store, without a path")
	flags.StringVar(&p.bucket, "bucket", "", "bucket; it is made when it is missing and the keys allow that")
	flags.StringVar(&p.prefix, "prefix", "", "what stands before every name in the bucket, such as slipway/")
	flags.StringVar(&p.region, "region", "", "region of the bucket (default us-east-1)")
	flags.StringVar(&p.secret, "secret", "", "Secret in slipway-system with accessKey and secretKey")
	flags.StringVar(&p.caFile, "ca-file", "", "PEM certificates that the store's certificate must lead to")
	flags.BoolVar(&p.virtual, "virtual-style", false, "put the bucket into the host name")
	flags.BoolVar(&p.insecure, "insecure", false, "allow an http:// endpoint")
	flags.StringVar(&p.description, "description", "", "what it is for")
	flags.DurationVar(&timeout, "timeout", 3*time.Minute, "how long to wait for the test")
	return cmd
}

func newLocationList(deps output.Deps) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Aliases: []string{"ls"}, Short: "List the places where backups are kept", Args: output.Args(cobra.NoArgs)}
	format := output.FormatFlag(cmd, output.FormatJSON, output.FormatYAML, output.FormatName)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		connection, err := deps.Connect("")
		if err != nil {
			return err
		}
		var all v1alpha1.BackupLocationList
		if err := connection.Client.List(cmd.Context(), &all); err != nil {
			return fmt.Errorf("cannot list backup locations: %w", err)
		}
		if format.Machine() {
			return output.PrintList(deps.Streams.Out, *format, &all, connection.Client.Scheme())
		}
		rows := [][]string{{"NAME", "KIND", "PLACE", "AVAILABLE", "BACKUPS", "BYTES", "AGE", "MESSAGE"}}
		for _, l := range all.Items {
			kind, where := "Directory", ""
			if l.Spec.Directory != nil {
				where = l.Spec.Directory.Path
			}
			if s := l.Spec.S3; s != nil {
				kind, where = "S3", s.Endpoint+"/"+s.Bucket+"/"+s.Prefix
			}
			available, message := "Unknown", "-"
			if c := meta.FindStatusCondition(l.Status.Conditions, v1alpha1.BackupLocationAvailable); c != nil {
				available = string(c.Status)
				if c.Status != metav1.ConditionTrue {
					message = c.Message
				}
			}
			rows = append(rows, []string{l.Name, kind, where, available, strconv.Itoa(int(l.Status.Backups)), strconv.FormatInt(l.Status.Bytes, 10),
				output.Age(deps.Clock(), l.CreationTimestamp), message})
		}
		return output.Table(deps.Streams.Out, "", rows...)
	}
	return cmd
}

func newLocationRemove(deps output.Deps) *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME",
		Short: "Remove a place where no backups are kept any more",
		Args:  output.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			connection, err := deps.Connect("")
			if err != nil {
				return err
			}
			var l v1alpha1.BackupLocation
			if err := connection.Client.Get(cmd.Context(), client.ObjectKey{Name: args[0]}, &l); err != nil {
				return fmt.Errorf("cannot find backup location %s: %w", args[0], err)
			}
			if n := l.Status.Backups; n > 0 {
				return output.Refused("InUse", "delete them first: slipway backup list", "cannot remove backup location %s: %d backups are kept in it", l.Name, n)
			}
			if err := connection.Client.Delete(cmd.Context(), &l); err != nil {
				return fmt.Errorf("cannot remove backup location %s: %w", l.Name, err)
			}
			_, err = fmt.Fprintf(deps.Streams.Out, "backup location %s removed\n", l.Name)
			return err
		},
	}
}
