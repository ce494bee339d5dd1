package backup

import (
	"fmt"
	"os"
	"strconv"
	"strings"
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

  # a directory on the control plane of an experiment: the backups are lost with that host
  slipway backup location add onhost --host cp1 --host-directory /root/backup

  # an NFS share that is mounted there on every control plane
  slipway backup location add nfs --host cp1,cp2,cp3 --host-directory /opt/backups --mounted

  # a bucket; the Secret has the keys accessKey and secretKey
  slipway backup location add offsite --endpoint https://s3.example.com:9000 --bucket slipway --secret s3-keys`

// place is what the flags say of a location.
type place struct {
	directory, hostDirectory, endpoint, bucket, prefix, region, secret, caFile, description string
	hosts                                                                                   []string
	mounted, virtual, insecure                                                              bool
}

// onOneHost warns of a location whose backups are lost with one host.
const onOneHost = "backups in it are on host %s alone, and lost with that host: for experiments with a single control plane only"

func (p *place) spec() (v1alpha1.BackupLocationSpec, error) {
	spec := v1alpha1.BackupLocationSpec{Description: p.description}
	onHosts := p.hostDirectory != "" || len(p.hosts) > 0 || p.mounted
	switch {
	case onHosts && (p.directory != "" || p.endpoint != "" || p.bucket != "" || p.hostDirectory == "" || len(p.hosts) == 0):
		return spec, output.Usagef("cannot tell where backups go: give --host and --host-directory, and neither --directory nor a bucket")
	case onHosts && len(p.hosts) > 1 && !p.mounted:
		return spec, output.Usagef("cannot keep backups in a directory of several hosts unless it is the same one: mount a share there and give --mounted, or one --host")
	case onHosts:
		spec.HostDirectory = &v1alpha1.HostDirectoryLocation{Hosts: p.hosts, Path: p.hostDirectory, Mounted: p.mounted}
		return spec, nil
	case p.directory != "" && p.endpoint == "" && p.bucket == "":
		spec.Directory = &v1alpha1.DirectoryLocation{Path: p.directory}
		return spec, nil
	case p.directory != "" || p.endpoint == "" || p.bucket == "" || p.secret == "":
		return spec, output.Usagef("cannot tell where backups go: give --directory, or --host and --host-directory, or --endpoint, --bucket and --secret")
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
		Use:   "add NAME (--directory PATH | --host NAME --host-directory PATH | --endpoint URL --bucket NAME --secret NAME)",
		Short: "Add a place where backups are kept, and wait until it was tried",
		Long: "Add a place where backups are kept, and wait until it was tried. A directory on a host (--host-directory) is for experiments with a\n" +
			"single control plane only: its backups are lost with the host. With --mounted it is a share that every --host has mounted there.",
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
			if spec.HostDirectory.OnOneHost() {
				if _, err := fmt.Fprintf(deps.Streams.ErrOut, "warning: "+onOneHost+"\n", p.hosts[0]); err != nil {
					return err
				}
			}
			_, err = fmt.Fprintf(deps.Streams.Out, "backup location %s can be used; lend it to a project: slipway grant add -p PROJECT --backup-location %s\n", l.Name, l.Name)
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&p.directory, "directory", "", "directory on the server's machine")
	flags.StringSliceVar(&p.hosts, "host", nil, "host that has the directory, one of a cluster; several with --mounted")
	flags.StringVar(&p.hostDirectory, "host-directory", "", "directory on that host; without --mounted the backups are lost with the host")
	flags.BoolVar(&p.mounted, "mounted", false, "the directory is the mount point of a share, such as NFS, on all the hosts")
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
			if d := l.Spec.HostDirectory; d != nil {
				kind, where = "HostDirectory", strings.Join(d.Hosts, ",")+":"+d.Path
				if d.Mounted {
					kind = "HostMount"
				}
			}
			if s := l.Spec.S3; s != nil {
				kind, where = "S3", s.Endpoint+"/"+s.Bucket+"/"+s.Prefix
			}
			available, message := "Unknown", "-"
			if c := meta.FindStatusCondition(l.Status.Conditions, v1alpha1.BackupLocationAvailable); c != nil {
				available = string(c.Status)
				switch {
				case c.Status != metav1.ConditionTrue:
					message = c.Message
				case l.Spec.HostDirectory.OnOneHost():
					message = "lost with the host"
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
