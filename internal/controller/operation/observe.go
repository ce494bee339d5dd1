package operation

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"runtime"
	"slices"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cluster"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/operation"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/plan/backup"
	"slipway.dev/slipway/internal/plan/clean"
	"slipway.dev/slipway/internal/plan/configure"
	"slipway.dev/slipway/internal/plan/create"
	"slipway.dev/slipway/internal/plan/delete"
	"slipway.dev/slipway/internal/plan/drill"
	"slipway.dev/slipway/internal/plan/renew"
	"slipway.dev/slipway/internal/plan/restore"
	"slipway.dev/slipway/internal/plan/scale"
	"slipway.dev/slipway/internal/plan/stages"
	"slipway.dev/slipway/internal/plan/start"
	"slipway.dev/slipway/internal/plan/stop"
	"slipway.dev/slipway/internal/plan/upgrade"
	"slipway.dev/slipway/internal/step"
)

// planners are the verbs whose plan is made from a spec and what is known of its hosts.
func planners() map[v1alpha1.Verb]func(stages.Input) (*plan.Plan, error) {
	return map[v1alpha1.Verb]func(stages.Input) (*plan.Plan, error){
		v1alpha1.VerbCreate:  create.Plan,
		v1alpha1.VerbScale:   scale.Plan,
		v1alpha1.VerbUpgrade: upgrade.Plan,
		v1alpha1.VerbBackup:  backup.Plan, v1alpha1.VerbRestore: restore.Plan,
		v1alpha1.VerbDrill:     drill.Plan,
		v1alpha1.VerbConfigure: configure.Plan,
		v1alpha1.VerbRenew:     renew.Plan,
		v1alpha1.VerbStop:      stop.Plan,
		v1alpha1.VerbStart:     start.Plan,
		v1alpha1.VerbClean:     clean.Plan,
	}
}

// makePlan plans the operation. For one that creates what a Cluster says, it gives the spec that it has read there as well.
func (r *Reconciler) makePlan(ctx context.Context, op *v1alpha1.Operation) (*plan.Plan, *v1alpha1.ClusterSpec, error) {
	if op.Spec.Verb == v1alpha1.VerbDelete {
		p, err := r.planDelete(ctx, op)
		return p, nil, err
	}
	planner := planners()[op.Spec.Verb]
	if planner == nil {
		return nil, nil, fault.NewTerminal("UnknownVerb", "", fmt.Errorf("cannot plan to %s cluster %s: this server does not know how", op.Spec.Verb, op.Spec.Cluster))
	}
	in, err := r.observe(ctx, op)
	if err != nil {
		return nil, nil, err
	}
	var from *v1alpha1.ClusterSpec
	if op.Spec.Verb == v1alpha1.VerbCreate && op.Spec.Wanted == nil {
		from = in.Spec.DeepCopy()
	}
	p, err := planner(in)
	return p, from, err
}

// observe gathers what a plan is made from.
func (r *Reconciler) observe(ctx context.Context, op *v1alpha1.Operation) (stages.Input, error) {
	in := stages.Input{
		Namespace: op.Namespace, Name: op.Spec.Cluster, Secret: cluster.KeysName(op.Spec.Cluster),
		Hosts: map[string]v1alpha1.Host{}, Claims: map[string]v1alpha1.HostClaimSpec{}, Platform: map[string]string{},
		PlatformCA: r.Platform.CA, ServerMachineID: r.Platform.MachineID, ServerArchitecture: runtime.GOARCH, Systems: r.Systems, Since: op.CreationTimestamp.UTC(),
	}
	if op.Spec.Parameters != nil {
		in.Parameters = *op.Spec.Parameters
	}
	in.Operation = string(op.UID)
	err := r.observeClaims(ctx, op, &in)
	if err != nil {
		return in, err
	}
	if in.Backup, err = r.backup(ctx, op); err != nil {
		return in, err
	}
	if in.Spec, in.Applied, err = r.wanted(ctx, op); err != nil {
		return in, err
	}
	if op.Spec.Verb == v1alpha1.VerbDrill && in.Backup != nil && in.Backup.Status.File != nil {
		in.Spec.Kubernetes.Version = in.Backup.Status.File.KubernetesVersion
	}
	if in.Grants, err = r.grants(ctx, op.Namespace); err != nil {
		return in, err
	}
	if err := r.observeHistory(ctx, op, &in); err != nil {
		return in, err
	}
	if err := r.observeHosts(ctx, &in); err != nil {
		return in, err
	}
	if in.Lends(v1alpha1.GrantBundle, in.Spec.Kubernetes.Version) {
		if in.Bundle, in.BundleProblem, err = r.Bundle(ctx, in.Spec.Kubernetes.Version); err != nil {
			return in, err
		}
	}
	if op.Spec.Verb == v1alpha1.VerbUpgrade {
		if err := r.observeBundles(ctx, &in); err != nil {
			return in, err
		}
		if in.Keep, err = r.keep(ctx, op, &in); err != nil {
			return in, err
		}
	}
	if in.Place, err = r.place(ctx, &in); err != nil {
		return in, err
	}
	if in.TimeServers, err = r.timeServers(ctx); err != nil {
		return in, err
	}
	precheck, err := r.setting(ctx, v1alpha1.SettingPrecheck)
	if err != nil {
		return in, err
	}
	if precheck.Precheck != nil {
		in.Precheck = *precheck.Precheck
	}
	return in, r.mintKeys(ctx, op)
}

// observeClaims finds the hosts that the cluster holds, and the UID that they are marked and claimed with.
func (r *Reconciler) observeClaims(ctx context.Context, op *v1alpha1.Operation, in *stages.Input) error {
	if op.Spec.Verb != v1alpha1.VerbCreate {
		claims, err := r.claims(ctx, op)
		if err != nil {
			return err
		}
		for _, c := range claims {
			if c.Annotations[v1alpha1.AnnotationNeedsCleaning] == "" {
				in.Claims[c.Name] = c.Spec
			} else {
				in.Uncleaned = append(in.Uncleaned, c.Name)
			}
		}
	}
	var err error
	in.UID, err = r.claimant(ctx, op)
	return err
}

// claimant gives the UID that a cluster's hosts are claimed with: that of the operation which created it.
func (r *Reconciler) claimant(ctx context.Context, op *v1alpha1.Operation) (string, error) {
	if op.Spec.Verb == v1alpha1.VerbCreate {
		return string(op.UID), nil
	}
	claims, err := r.claims(ctx, op)
	if err != nil {
		return "", err
	}
	for _, c := range claims {
		if c.Annotations[v1alpha1.AnnotationNeedsCleaning] == "" {
			return c.Spec.ClusterUID, nil
		}
	}
	return "", fault.NewTerminal("NotCreated", "create the cluster first", fmt.Errorf("cannot %s cluster %s: it holds no host", op.Spec.Verb, op.Spec.Cluster))
}

// wanted gives the spec to bring about and the one that is there, nil when there is none yet. A cluster of the same name
// elsewhere is a Terminal error.
func (r *Reconciler) wanted(ctx context.Context, op *v1alpha1.Operation) (v1alpha1.ClusterSpec, *v1alpha1.ClusterSpec, error) {
	var none v1alpha1.ClusterSpec
	var all v1alpha1.ClusterList
	if err := r.Client.List(ctx, &all, client.MatchingFields{"metadata.name": op.Spec.Cluster}); err != nil {
		return none, nil, fault.NewTransient("APIUnreachable", fmt.Errorf("cannot list clusters: %w", err))
	}
	var own *v1alpha1.Cluster
	for i, c := range all.Items {
		switch {
		case c.Name != op.Spec.Cluster:
		case c.Namespace != op.Namespace:
			return none, nil, fault.NewTerminal("NameTaken", "choose another name: cluster names are unique in the platform",
				fmt.Errorf("cannot %s cluster %s: another project has one of that name", op.Spec.Verb, op.Spec.Cluster))
		default:
			own = &all.Items[i]
		}
	}
	creates := op.Spec.Verb == v1alpha1.VerbCreate
	switch {
	case own == nil && (op.Spec.Wanted == nil || !creates):
		return none, nil, fault.NewTerminal("NotFound", "", fmt.Errorf("cannot %s cluster %s: %w", op.Spec.Verb, op.Spec.Cluster, errNoCluster))
	case creates && own != nil && op.Spec.Wanted != nil && op.Spec.Generation == 0 && own.Annotations[v1alpha1.AnnotationCreatedBy] != op.Name:
		return none, nil, fault.NewTerminal("NameTaken", "choose another name, or delete that cluster first",
			fmt.Errorf("cannot create cluster %s: it exists", own.Name))
	case !creates && own.Status.Applied == nil:
		return none, nil, fault.NewTerminal("NotCreated", "create the cluster first; retry its create operation if that failed",
			fmt.Errorf("cannot %s cluster %s: it is not created yet", op.Spec.Verb, own.Name))
	case own != nil && own.Spec.Recycle && op.Spec.Verb != v1alpha1.VerbStop:
		return none, nil, fault.NewTerminal("Recycled", "take it back first: slipway cluster undelete "+own.Name,
			fmt.Errorf("cannot %s cluster %s: it is in the recycle bin", op.Spec.Verb, own.Name))
	case creates && op.Spec.Wanted != nil:
		return *op.Spec.Wanted, nil, nil
	case creates:
		return own.Spec, nil, nil
	case op.Spec.Wanted != nil:
		return *op.Spec.Wanted, own.Status.Applied, nil
	default:
		return *own.Status.Applied, own.Status.Applied, nil
	}
}

// backup gives the Backup that an operation names, nil when it names none or there is none.
func (r *Reconciler) backup(ctx context.Context, op *v1alpha1.Operation) (*v1alpha1.Backup, error) {
	if op.Spec.Parameters == nil || op.Spec.Parameters.Backup == "" {
		return nil, nil
	}
	var b v1alpha1.Backup
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: op.Namespace, Name: op.Spec.Parameters.Backup}, &b)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.NewTransient("APIUnreachable", fmt.Errorf("cannot read backup %s: %w", op.Spec.Parameters.Backup, err))
	}
	return &b, nil
}

// grants gives what is lent to a project.
func (r *Reconciler) grants(ctx context.Context, project string) ([]v1alpha1.GrantSpec, error) {
	var all v1alpha1.GrantList
	if err := r.Client.List(ctx, &all, client.InNamespace(project)); err != nil {
		return nil, fault.NewTransient("APIUnreachable", fmt.Errorf("cannot list the grants of project %s: %w", project, err))
	}
	var specs []v1alpha1.GrantSpec
	for _, g := range all.Items {
		if g.DeletionTimestamp == nil {
			specs = append(specs, g.Spec)
		}
	}
	return specs, nil
}

func (r *Reconciler) observeHosts(ctx context.Context, in *stages.Input) error {
	platform, err := r.platformAddress(ctx)
	if err != nil {
		return err
	}
	names := slices.AppendSeq(append(in.Spec.AllHosts(), in.Uncleaned...), maps.Keys(in.Claims))
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		_, own := in.Claims[name]
		own = own || slices.Contains(in.Uncleaned, name)
		if !own && !in.Lends(v1alpha1.GrantHost, name) {
			continue // Not even an error about it may tell whether it exists.
		}
		var h v1alpha1.Host
		err := r.Client.Get(ctx, client.ObjectKey{Name: name}, &h)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return fault.NewTransient("APIUnreachable", fmt.Errorf("cannot read host %s: %w", name, err))
		}
		in.Hosts[name] = h
		if in.Platform[name], err = platform(h.Status.InternalAddress); err != nil {
			return fault.NewTerminal("PlatformAddressUnknown", "set spec.platform.address of Setting platform", err)
		}
		if own {
			continue
		}
		var claim v1alpha1.HostClaim
		err = r.Client.Get(ctx, client.ObjectKey{Name: name}, &claim)
		if err == nil {
			in.Claims[name] = claim.Spec
		} else if !apierrors.IsNotFound(err) {
			return fault.NewTransient("APIUnreachable", fmt.Errorf("cannot read the claim of host %s: %w", name, err))
		}
	}
	return nil
}

// setting gives the Setting of that name; one that nobody made is empty.
func (r *Reconciler) setting(ctx context.Context, name string) (v1alpha1.SettingSpec, error) {
	var setting v1alpha1.Setting
	err := r.Client.Get(ctx, client.ObjectKey{Name: name}, &setting)
	if err != nil && !apierrors.IsNotFound(err) {
		return v1alpha1.SettingSpec{}, fault.NewTransient("APIUnreachable", fmt.Errorf("cannot read Setting %s: %w", name, err))
	}
	return setting.Spec, nil
}

// platformAddress gives how a host at an address reaches the server.
func (r *Reconciler) platformAddress(ctx context.Context) (func(string) (string, error), error) {
	setting, err := r.setting(ctx, v1alpha1.SettingPlatform)
	if err != nil {
		return nil, err
	}
	if p := setting.Platform; p != nil && p.Address != "" {
		address := net.JoinHostPort(p.Address, strconv.Itoa(r.Platform.Port))
		return func(string) (string, error) { return address, nil }, nil
	}
	return func(host string) (string, error) {
		if host == "" {
			return "", nil // The host was not seen yet, which the planner says better.
		}
		return r.Platform.Address(host)
	}, nil
}

func (r *Reconciler) timeServers(ctx context.Context) ([]string, error) {
	setting, err := r.setting(ctx, v1alpha1.SettingNTP)
	if err != nil || setting.NTP == nil {
		return nil, err
	}
	var servers []string
	for _, s := range setting.NTP.Servers {
		if s.Enabled == nil || *s.Enabled {
			servers = append(servers, s.Address)
		}
	}
	return servers, nil
}

// planDelete plans for every host that the cluster holds a claim on.
func (r *Reconciler) planDelete(ctx context.Context, op *v1alpha1.Operation) (*plan.Plan, error) {
	claims, err := r.claims(ctx, op)
	if err != nil {
		return nil, err
	}
	in := delete.Input{Namespace: op.Namespace, Name: op.Spec.Cluster}
	c, err := r.cluster(ctx, op)
	if err != nil {
		return nil, err
	}
	if c == nil {
		return nil, fault.NewTerminal("NotFound", "", fmt.Errorf("cannot delete cluster %s: %w", op.Spec.Cluster, errNoCluster))
	}
	in.Spec = c.Spec
	for _, claim := range claims {
		in.Hosts = append(in.Hosts, step.Target{Name: claim.Name})
	}
	return delete.Plan(in)
}

// claims lists the claims that the operation's cluster holds, by name.
func (r *Reconciler) claims(ctx context.Context, op *v1alpha1.Operation) ([]v1alpha1.HostClaim, error) {
	var all v1alpha1.HostClaimList
	if err := r.Client.List(ctx, &all); err != nil {
		return nil, fault.NewTransient("APIUnreachable", fmt.Errorf("cannot list host claims: %w", err))
	}
	var own []v1alpha1.HostClaim
	for _, c := range all.Items {
		if c.Spec.Namespace == op.Namespace && c.Spec.Cluster == op.Spec.Cluster {
			own = append(own, c)
		}
	}
	return own, nil
}

// store keeps the plan and gives its hash.
func (r *Reconciler) store(ctx context.Context, op *v1alpha1.Operation, p *plan.Plan) (string, error) {
	b, err := p.Encode()
	if err != nil {
		return "", err
	}
	if err := r.Plans.Put(ctx, operation.PlanName(op.Namespace, op.Name), b); err != nil {
		return "", fmt.Errorf("cannot store the plan of operation %s: %w", op.Name, err)
	}
	return plan.Digest(b), nil
}

// stored reads the plan back and proves that it is the one the status names.
func (r *Reconciler) stored(ctx context.Context, op *v1alpha1.Operation) (*plan.Plan, error) {
	f, err := r.Plans.Open(ctx, operation.PlanName(op.Namespace, op.Name))
	if err != nil {
		return nil, fmt.Errorf("cannot read the plan of operation %s: %w", op.Name, err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("cannot read the plan of operation %s: %w", op.Name, err)
	}
	if op.Status.Plan == nil || plan.Digest(b) != op.Status.Plan.Hash {
		return nil, fmt.Errorf("cannot use the plan of operation %s: it is not the one that was approved", op.Name)
	}
	return plan.Decode(b)
}

// preview looks at every host once and keeps what it found with the plan.
func (r *Reconciler) preview(ctx context.Context, op *v1alpha1.Operation, p *plan.Plan) error {
	found, err := r.Engine.Preview(ctx, p)
	if err != nil {
		return fmt.Errorf("cannot preview operation %s: %w", op.Name, err)
	}
	b, err := json.Marshal(found)
	if err != nil {
		return fmt.Errorf("cannot encode the preview of operation %s: %w", op.Name, err)
	}
	if err := r.Plans.Put(ctx, operation.PreviewName(op.Namespace, op.Name), b); err != nil {
		return fmt.Errorf("cannot store the preview of operation %s: %w", op.Name, err)
	}
	return nil
}
