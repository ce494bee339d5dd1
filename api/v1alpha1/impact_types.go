package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// OperationImpact says, before anything is done, what an operation does to a cluster that runs. It is the most that can
// happen: a step that finds nothing to do restarts nothing. Lists hold the first of what they count.
type OperationImpact struct {
	// Unknown says why the cluster could not be looked at. What follows about pods, budgets, room and etcd is then not
	// known, which never means none. Empty when all of it is known.
	Unknown string `json:"unknown,omitempty"`
	// LookedAt is when the cluster was looked at; nil when there was no need to.
	LookedAt *metav1.Time `json:"lookedAt,omitempty"`
	// Nodes are those to which something is done, in the order of the plan, and MoreNodes counts those behind them.
	// +kubebuilder:validation:MaxItems=20
	Nodes     []NodeImpact `json:"nodes,omitempty"`
	MoreNodes int32        `json:"moreNodes,omitempty"`
	// Everywhere names what restarts on every node or in the whole cluster, one pod after another, such as kube-proxy.
	// +kubebuilder:validation:MaxItems=20
	Everywhere []string `json:"everywhere,omitempty"`
	// Moving are pods that go and that their controller starts anew on another node.
	Moving PodNames `json:"moving,omitzero"`
	// Stopping are pods that stop with their node and may start there again.
	Stopping PodNames `json:"stopping,omitzero"`
	// Lost are pods that go and that nothing makes anew.
	Lost PodNames `json:"lost,omitzero"`
	// LocalData are pods that go from what they keep in an emptyDir or a directory of the node.
	LocalData PodNames `json:"localData,omitzero"`
	// Alone are pods that go while their controller has no other ready pod on another node: what they serve is interrupted.
	Alone PodNames `json:"alone,omitzero"`
	// NoRoom are pods that go and fit on no node that is left, by requests, taints, node selector and node affinity.
	NoRoom PodNames `json:"noRoom,omitzero"`
	// Budgets are the disruption budgets that let a pod not go at all as things are, and MoreBudgets counts those behind them.
	// +kubebuilder:validation:MaxItems=20
	Budgets     []BudgetImpact `json:"budgets,omitempty"`
	MoreBudgets int32          `json:"moreBudgets,omitempty"`
	// Etcd is the moment when etcd is nearest to losing its majority; nil when nothing is done to it.
	Etcd *EtcdImpact `json:"etcd,omitempty"`
	// APIAway says that for a while no API server answers.
	APIAway bool `json:"apiAway,omitempty"`
	// Warnings are what should be known and is no reason to refuse.
	// +kubebuilder:validation:MaxItems=20
	Warnings []string `json:"warnings,omitempty"`
	// LastTime is the last operation of the same verb on this cluster that succeeded; nil when none is remembered.
	LastTime *EarlierRun `json:"lastTime,omitempty"`
}

// NodeChange says whether a node comes or goes.
type NodeChange string

// The changes of a node. One that stays has none.
const (
	// NodeJoins is a host that becomes a node.
	NodeJoins NodeChange = "Joins"
	// NodeLeaves is a node that leaves the cluster.
	NodeLeaves NodeChange = "Leaves"
	// NodeStops is a node on which everything is stopped and kept.
	NodeStops NodeChange = "Stops"
)

// NodeImpact is what is done to one node.
type NodeImpact struct {
	Name string `json:"name"`
	// Change is empty for a node that stays.
	Change NodeChange `json:"change,omitempty"`
	// Restarts names the components that restart there, or that stop and are started again, in the order of the plan.
	// +kubebuilder:validation:MaxItems=20
	Restarts []string `json:"restarts,omitempty"`
	// Drains says that its pods are moved away first, Reboots that the machine is.
	Drains  bool `json:"drains,omitempty"`
	Reboots bool `json:"reboots,omitempty"`
	// Pods is how many pods there move, stop or are lost.
	Pods int32 `json:"pods,omitempty"`
}

// PodNames counts pods and names the first of them.
type PodNames struct {
	Count int32 `json:"count,omitempty"`
	// Names are NAMESPACE/NAME.
	// +kubebuilder:validation:MaxItems=20
	Names []string `json:"names,omitempty"`
}

// BudgetImpact is a disruption budget that blocks.
type BudgetImpact struct {
	// Name is NAMESPACE/NAME.
	Name string `json:"name"`
	// Why says what holds its pods, such as 0 disruptions allowed.
	Why string `json:"why"`
	// Pods is how many of them it holds.
	Pods int32 `json:"pods,omitempty"`
}

// EtcdImpact is how near etcd comes to losing its majority.
type EtcdImpact struct {
	// Members is how many voters there are then, Answering how many of them answer, Needed how many must.
	Members   int32 `json:"members"`
	Answering int32 `json:"answering"`
	Needed    int32 `json:"needed"`
}

// Kept says that the majority is never lost.
func (e *EtcdImpact) Kept() bool { return e == nil || e.Answering >= e.Needed }

// EarlierRun is an operation that is over.
type EarlierRun struct {
	Operation string          `json:"operation"`
	Took      metav1.Duration `json:"took"`
}

// Harmless says that the cluster was looked at, or need not be, and that nothing is lost, interrupted or held up: no pod
// that goes is lost, loses data, stands alone or finds no room, no budget blocks, etcd keeps its majority and the API answers.
// Nil, which is a cluster that does not exist yet, is not harmless: nothing is known of it.
func (i *OperationImpact) Harmless() bool {
	return i != nil && i.Unknown == "" && i.Lost.Count+i.LocalData.Count+i.Alone.Count+i.NoRoom.Count+i.Stopping.Count == 0 &&
		len(i.Budgets) == 0 && i.Etcd.Kept() && !i.APIAway
}
