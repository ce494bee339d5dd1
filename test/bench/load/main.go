// Command load owns the making of many Host and Cluster objects through the API, as an outside client makes them, and the
// figures of that. It must never name an address outside loopback: the hosts it makes refuse every connection.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
)

type options struct {
	kubeconfig, version, project string
	hosts, clusters, writers     int
}

func main() {
	var o options
	flag.StringVar(&o.kubeconfig, "kubeconfig", os.Getenv("KUBECONFIG"), "kubeconfig of the server")
	flag.StringVar(&o.version, "kubernetes", "v1.36.3", "version that the clusters ask for")
	flag.StringVar(&o.project, "project", "default", "namespace of the clusters")
	flag.IntVar(&o.hosts, "hosts", 10000, "how many hosts to make")
	flag.IntVar(&o.clusters, "clusters", 1000, "how many clusters to make; the hosts are shared out among them")
	flag.IntVar(&o.writers, "writers", 16, "how many requests are under way at a time")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := load(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func load(ctx context.Context, o options) error {
	c, err := connect(o.kubeconfig)
	if err != nil {
		return err
	}
	const login = "load"
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: login},
		Type:       v1alpha1.SecretTypeCredential,
		StringData: map[string]string{v1alpha1.SecretKeyPassword: "not used"},
	}
	credential := &v1alpha1.Credential{
		ObjectMeta: metav1.ObjectMeta{Name: login},
		Spec:       v1alpha1.CredentialSpec{User: "root", Type: v1alpha1.CredentialPassword, SecretName: login},
	}
	for _, object := range []client.Object{secret, credential} {
		if err := c.Create(ctx, object); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("cannot make the credential of the hosts: %w", err)
		}
	}
	fmt.Println("| objects | count | writers | seconds | writes/s | p50 ms | p99 ms |")
	fmt.Println("|---|---|---|---|---|---|---|")
	if err := many(ctx, o.writers, o.hosts, "Host", func(n int) error { return c.Create(ctx, host(n, login)) }); err != nil {
		return err
	}
	each := o.hosts / max(1, o.clusters)
	if o.clusters > 0 && each == 0 {
		return fmt.Errorf("cannot share %d hosts out among %d clusters: every cluster needs one", o.hosts, o.clusters)
	}
	return many(ctx, o.writers, o.clusters, "Cluster", func(n int) error { return c.Create(ctx, cluster(n, each, o)) })
}

func connect(kubeconfig string) (client.Client, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("cannot read the kubeconfig: %w", err)
	}
	config.QPS = -1 // The server's limits are what is measured.
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("cannot know Kubernetes' kinds: %w", err)
	}
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("cannot know Slipway's kinds: %w", err)
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("cannot connect: %w", err)
	}
	return c, nil
}

func hostName(n int) string { return fmt.Sprintf("load-%05d", n) }

// host is a machine that is down: a loopback address of its own where nothing listens.
func host(n int, credential string) *v1alpha1.Host {
	return &v1alpha1.Host{
		ObjectMeta: metav1.ObjectMeta{Name: hostName(n)},
		Spec: v1alpha1.HostSpec{
			Address: fmt.Sprintf("127.%d.%d.%d", 1+n>>16, n>>8&255, n&255), Port: 1, Credential: credential,
		},
	}
}

func cluster(n, each int, o options) *v1alpha1.Cluster {
	spec := v1alpha1.ClusterSpec{
		Kubernetes:   v1alpha1.KubernetesSpec{Version: o.version},
		ControlPlane: v1alpha1.ControlPlaneSpec{Hosts: []string{hostName(n * each)}},
	}
	if each > 1 {
		pool := v1alpha1.WorkerPool{Name: "workers"}
		for i := 1; i < each; i++ {
			pool.Hosts = append(pool.Hosts, hostName(n*each+i))
		}
		spec.WorkerPools = []v1alpha1.WorkerPool{pool}
	}
	return &v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: o.project, Name: fmt.Sprintf("load-%04d", n)}, Spec: spec}
}

// many does write for 0 to count-1 with some writers at a time and prints one row.
func many(ctx context.Context, writers, count int, what string, write func(n int) error) error {
	if count == 0 {
		return nil
	}
	numbers := make(chan int)
	took := make([]time.Duration, count)
	failed := make([]error, count)
	var group sync.WaitGroup
	begun := time.Now()
	for range writers {
		group.Go(func() {
			for n := range numbers {
				started := time.Now()
				failed[n] = write(n)
				took[n] = time.Since(started)
			}
		})
	}
	for n := range count {
		if ctx.Err() != nil {
			break
		}
		numbers <- n
	}
	close(numbers)
	group.Wait()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("cannot make every %s: %w", what, err)
	}
	for n, err := range failed {
		if err != nil {
			return fmt.Errorf("cannot make %s number %d: %w", what, n, err)
		}
	}
	elapsed := time.Since(begun).Seconds()
	slices.Sort(took)
	millis := func(share float64) float64 { return float64(took[int(share*float64(count-1))].Microseconds()) / 1000 }
	fmt.Printf("| %s | %d | %d | %.1f | %.0f | %.1f | %.1f |\n", what, count, writers, elapsed, float64(count)/elapsed, millis(0.5), millis(0.99))
	return nil
}
