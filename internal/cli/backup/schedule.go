package backup

import (
	"context"
	"fmt"
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

func newSchedule(deps output.Deps, project *string) *cobra.Command {
	cmd := &cobra.Command{Use: "schedule", Aliases: []string{"schedules"}, Short: "Take backups of a cluster again and again, or once at a time"}
	return output.Noun(cmd, newScheduleAdd(deps, project), newScheduleList(deps, project), newScheduleEdit(deps, project),
		newScheduleSwitch(deps, project, true), newScheduleSwitch(deps, project, false), newScheduleDelete(deps, project))
}

// timing is what the flags say of when a schedule runs.
type timing struct {
	cron, zone, at, drill string
	keep                  int32
}

// never takes the drills of a schedule away.
const never = "never"

func (t *timing) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&t.cron, "cron", "", `minute, hour, day of month, month, day of week, such as "30 2 * * *"`)
	cmd.Flags().StringVar(&t.zone, "time-zone", "", "time zone of --cron and --drill, such as Asia/Shanghai (default UTC)")
	cmd.Flags().StringVar(&t.at, "at", "", "the time of the only run, such as 2027-01-31T02:30:00Z")
	cmd.Flags().StringVar(&t.drill, "drill", "", "when the newest backup is proven by bringing it back aside, like --cron; never takes that away")
	cmd.Flags().Int32Var(&t.keep, "keep", 0, "how many completed backups are kept; the oldest go first (default 7)")
}

// set changes what the flags name, and nothing else.
func (t *timing) set(spec *v1alpha1.BackupScheduleSpec) error {
	if t.cron != "" && t.at != "" {
		return output.Usagef("cannot tell when to run: give --cron or --at, not both")
	}
	if t.cron != "" {
		spec.Cron, spec.At = t.cron, nil
	}
	if t.at != "" {
		at, err := time.Parse(time.RFC3339, t.at)
		if err != nil {
			return output.Usagef("cannot read the time %q: write it like 2027-01-31T02:30:00Z", t.at)
		}
		spec.Cron, spec.At = "", &metav1.Time{Time: at}
	}
	if t.zone != "" {
		spec.TimeZone = t.zone
	}
	if t.drill != "" {
		spec.Drill = strings.TrimPrefix(t.drill, never)
	}
	if t.keep != 0 {
		spec.Keep = t.keep
	}
	return nil
}

func newScheduleAdd(deps output.Deps, project *string) *cobra.Command {
	var t timing
	var location string
	cmd := &cobra.Command{
		Use:     "add NAME CLUSTER --location NAME (--cron TIME | --at TIME)",
		Short:   "Take backups of a cluster by itself",
		Example: `  slipway backup schedule add nightly demo --location local --cron "30 2 * * *" --time-zone Asia/Shanghai --keep 7 --drill "0 4 * * 0"`,
		Args:    output.Args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if location == "" || t.cron == "" && t.at == "" {
				return output.Usagef("cannot add schedule %s: give --location, and --cron or --at", args[0])
			}
			connection, err := deps.Connect(*project)
			if err != nil {
				return err
			}
			s := &v1alpha1.BackupSchedule{ObjectMeta: metav1.ObjectMeta{Namespace: connection.Project, Name: args[0]},
				Spec: v1alpha1.BackupScheduleSpec{Cluster: args[1], Location: location}}
			if err := t.set(&s.Spec); err != nil {
				return err
			}
			if err := connection.Client.Create(cmd.Context(), s); err != nil {
				return fmt.Errorf("cannot add backup schedule %s: %w", s.Name, err)
			}
			_, err = fmt.Fprintf(deps.Streams.Out, "backup schedule %s added; its next run: slipway backup schedule list\n", s.Name)
			return err
		},
	}
	t.flags(cmd)
	cmd.Flags().StringVar(&location, "location", "", "backup location that keeps the backups")
	return cmd
}

func newScheduleList(deps output.Deps, project *string) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Aliases: []string{"ls"}, Short: "List the schedules", Args: output.Args(cobra.NoArgs)}
	format := output.FormatFlag(cmd, output.FormatJSON, output.FormatYAML, output.FormatName)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		connection, err := deps.Connect(*project)
		if err != nil {
			return err
		}
		var all v1alpha1.BackupScheduleList
		if err := connection.Client.List(cmd.Context(), &all, client.InNamespace(connection.Project)); err != nil {
			return fmt.Errorf("cannot list backup schedules: %w", err)
		}
		if format.Machine() {
			return output.PrintList(deps.Streams.Out, *format, &all, connection.Client.Scheme())
		}
		rows := [][]string{{"NAME", "CLUSTER", "LOCATION", "WHEN", "KEEP", "BACKUPS", "LAST", "NEXT", "NEXT DRILL", "STATE"}}
		for _, s := range all.Items {
			when, last, next, drill, state := s.Spec.Cron+" "+s.Spec.TimeZone, "-", "-", "-", "Unknown"
			if s.Spec.At != nil {
				when = "once " + s.Spec.At.UTC().Format(time.RFC3339)
			}
			if s.Status.Last != nil {
				last = s.Status.Last.Backup
			}
			if s.Status.Next != nil {
				next = s.Status.Next.UTC().Format(time.RFC3339)
			}
			if s.Status.NextDrill != nil {
				drill = s.Status.NextDrill.UTC().Format(time.RFC3339)
			}
			if c := meta.FindStatusCondition(s.Status.Conditions, v1alpha1.BackupScheduleReady); c != nil {
				state = c.Reason
			}
			rows = append(rows, []string{s.Name, s.Spec.Cluster, s.Spec.Location, when, strconv.Itoa(int(s.Spec.Keep)), strconv.Itoa(int(s.Status.Backups)), last, next, drill, state})
		}
		return output.Table(deps.Streams.Out, "", rows...)
	}
	return cmd
}

// change edits one schedule.
func change(ctx context.Context, deps output.Deps, project, name, done string, edit func(*v1alpha1.BackupScheduleSpec) error) error {
	connection, err := deps.Connect(project)
	if err != nil {
		return err
	}
	var s v1alpha1.BackupSchedule
	if err := connection.Client.Get(ctx, client.ObjectKey{Namespace: connection.Project, Name: name}, &s); err != nil {
		return fmt.Errorf("cannot find backup schedule %s: %w", name, err)
	}
	before := s.DeepCopy()
	if err := edit(&s.Spec); err != nil {
		return err
	}
	if err := connection.Client.Patch(ctx, &s, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("cannot change backup schedule %s: %w", name, err)
	}
	_, err = fmt.Fprintf(deps.Streams.Out, "backup schedule %s %s\n", name, done)
	return err
}

func newScheduleEdit(deps output.Deps, project *string) *cobra.Command {
	var t timing
	cmd := &cobra.Command{
		Use:   "edit NAME",
		Short: "Change when a schedule runs and how many backups it keeps",
		Args:  output.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if t == (timing{}) {
				return output.Usagef("cannot tell what to change: give --cron, --at, --time-zone, --drill or --keep")
			}
			return change(cmd.Context(), deps, *project, args[0], "changed", t.set)
		},
	}
	t.flags(cmd)
	return cmd
}

func newScheduleSwitch(deps output.Deps, project *string, on bool) *cobra.Command {
	verb, done, short := "disable", "disabled", "Keep a schedule from running"
	if on {
		verb, done, short = "enable", "enabled", "Let a schedule run again; what was due meanwhile is not made up for"
	}
	return &cobra.Command{
		Use:   verb + " NAME",
		Short: short,
		Args:  output.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return change(cmd.Context(), deps, *project, args[0], done, func(s *v1alpha1.BackupScheduleSpec) error {
				s.Enabled = &on
				return nil
			})
		},
	}
}

func newScheduleDelete(deps output.Deps, project *string) *cobra.Command {
	return &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete a schedule; its backups stay",
		Args:  output.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			connection, err := deps.Connect(*project)
			if err != nil {
				return err
			}
			s := &v1alpha1.BackupSchedule{ObjectMeta: metav1.ObjectMeta{Namespace: connection.Project, Name: args[0]}}
			if err := connection.Client.Delete(cmd.Context(), s); err != nil {
				return fmt.Errorf("cannot delete backup schedule %s: %w", args[0], err)
			}
			_, err = fmt.Fprintf(deps.Streams.Out, "backup schedule %s deleted; its backups stay\n", args[0])
			return err
		},
	}
}
