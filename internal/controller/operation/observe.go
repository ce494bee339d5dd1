package operation

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cluster"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/operation"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/plan/create"
	"slipway.dev/slipway/internal/plan/delete"
	"slipway.dev/slipway/internal/step"
)

func (r *Reconciler) makePlan(ctx context.Context, op *v1alpha1.Operation) (*plan.Plan, error) {
	if op.Spec.Verb == v1alpha1.VerbDelete {
		return r.planDelete(ctx, op)
	}
	return r.planCreate(ctx, op)
}

func (r *Reconciler) planCreate(ctx context.Context, op *v1alpha1.Operation) (*plan.Plan, error) {
	in := create.Input{
		Namespace: op.Namespace, Name: op.Spec.Cluster, UID: string(op.UID), Secret: cluster.KeysName(op.Spec.Cluster),
		Hosts: map[string]v1alpha1.Host{}, Claims: map[string]v1alpha1.HostClaimSpec{}, Platform: map[string]string{},
		PlatformCA: r.Platform.CA, ServerMachineID: r.Platform.MachineID, Systems: r.Systems,
	}
	spec, err := r.wanted(ctx, op)
	if err != nil {
		return nil, err
	}
	in.Spec = spec
	if in.Grants, err = r.grants(ctx, op.Namespace); err != nil {
		return nil, err
	}
	if err := r.observeHosts(ctx, &in); err != nil {
		return nil, err
	}
	if in.Lends(v1alpha1.GrantBundle, in.Spec.Kubernetes.Version) {
		if in.Bundle, in.BundleProblem, err = r.Bundle(ctx, in.Spec.Kubernetes.Version); err != nil {
			return nil, err
		}
	}
	if in.TimeServers, err = r.timeServers(ctx); err != nil {
		return nil, err
	}
	precheck, err := r.setting(ctx, v1alpha1.SettingPrecheck)
	if err != nil {
		return nil, err
	}
	if precheck.Precheck != nil {
		in.Precheck = *precheck.Precheck
	}
	if err := r.mintKeys(ctx, op); err != nil {
		return nil, err
	}
	return create.Plan(in)
}

// wanted gives the spec to create. A cluster of the same name elsewhere is a Terminal error.
func (r *Reconciler) wanted(ctx context.Context, op *v1alpha1.Operation) (v1alpha1.ClusterSpec, error) {
	var all v1alpha1.ClusterList
	if err := r.Client.List(ctx, &all, client.MatchingFields{"metadata.name": op.Spec.Cluster}); err != nil {
		return v1alpha1.ClusterSpec{}, fault.NewTransient("APIUnreachable", fmt.Errorf("cannot list clusters: %w", err))
	}
	var own *v1alpha1.Cluster
	for i, c := range all.Items {
		switch {
		case c.Name != op.Spec.Cluster:
		case c.Namespace != op.Namespace:
			return v1alpha1.ClusterSpec{}, fault.NewTerminal("NameTaken", "choose another name: cluster names are unique in the platform",
				fmt.Errorf("cannot create cluster %s: another project has one of that name", c.Name))
		default:
			own = &all.Items[i]
		}
	}
	switch {
	case own == nil && op.Spec.Wanted == nil:
		return v1alpha1.ClusterSpec{}, fault.NewTerminal("NotFound", "", fmt.Errorf("cannot create cluster %s: %w", op.Spec.Cluster, errNoCluster))
	case own != nil && op.Spec.Wanted != nil && own.Annotations[v1alpha1.AnnotationCreatedBy] != op.Name:
		return v1alpha1.ClusterSpec{}, fault.NewTerminal("NameTaken", "choose another name, or delete that cluster first",
			fmt.Errorf("cannot create cluster %s: it exists", own.Name))
	case op.Spec.Wanted != nil:
		return *op.Spec.Wanted, nil
	default:
		return own.Spec, nil
	}
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

func (r *Reconciler) observeHosts(ctx context.Context, in *create.Input) error {
	platform, err := r.platformAddress(ctx)
	if err != nil {
		return err
	}
	for _, name := range in.Spec.AllHosts() {
		if !in.Lends(v1alpha1.GrantHost, name) {
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
