package app

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"strings"

	"github.com/opencontainers/go-digest"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"slipway.dev/slipway/api/crd"
	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/catalog"
	"slipway.dev/slipway/internal/auth"
	"slipway.dev/slipway/internal/bundle"
	"slipway.dev/slipway/internal/cluster"
	"slipway.dev/slipway/internal/drill"
	"slipway.dev/slipway/internal/gateway"
	"slipway.dev/slipway/internal/host/ssh"
	"slipway.dev/slipway/internal/operation"
	"slipway.dev/slipway/internal/plan/stages"
	"slipway.dev/slipway/internal/step"
	"slipway.dev/slipway/internal/step/kubeadm"

	backupcontroller "slipway.dev/slipway/internal/controller/backup"
	backuplocationcontroller "slipway.dev/slipway/internal/controller/backuplocation"
	backupschedulecontroller "slipway.dev/slipway/internal/controller/backupschedule"
	bundlecontroller "slipway.dev/slipway/internal/controller/bundle"
	clustercontroller "slipway.dev/slipway/internal/controller/cluster"
	grantcontroller "slipway.dev/slipway/internal/controller/grant"
	hostcontroller "slipway.dev/slipway/internal/controller/host"
	operationcontroller "slipway.dev/slipway/internal/controller/operation"
	projectcontroller "slipway.dev/slipway/internal/controller/project"
	usercontroller "slipway.dev/slipway/internal/controller/user"
)

// addControllers adds one controller a kind.
func addControllers(ctx context.Context, s *parts, owner string, platform operationcontroller.Platform, log *slog.Logger) error {
	systems, err := systems()
	if err != nil {
		return err
	}
	registry, err := Steps()
	if err != nil {
		return err
	}
	values := secrets{learningReader{s.live, s.unprintable}}
	access := cluster.NewAccess(s.pool, values, locate(s.live))
	s.clusters = access
	places := stores(learningReader{s.live, s.unprintable}, s.pool, owner)
	keeper := &backupcontroller.Keeper{Client: s.live, Stores: places, Scratch: s.scratch, Drills: drill.New(s.bundles, s.scratch), Version: s.version}
	engine, err := operation.New(operation.Deps{
		Client: s.live, Sessions: s.pool, Steps: registry, Secrets: values, Blobs: blobs{s.bundles}, Backups: keeper, Unprintable: s.unprintable,
		Cluster: func(namespace, name string) (step.ClusterReader, step.ClusterWriter) {
			connection := access.Connection(namespace, name)
			return connection, connection
		},
		Logs: s.blobs, Owner: owner, Log: log,
	})
	if err != nil {
		return err
	}
	for name, setup := range map[string]func() error{
		"host": func() error {
			return hostcontroller.Setup(ctx, s.manager, hostcontroller.Deps{
				Client: s.manager.GetClient(), Live: s.live, Sessions: s.pool, Scan: ssh.Scan, Log: log, Redact: s.unprintable.Redact,
				Lookup: func(ctx context.Context, name string) ([]netip.Addr, error) {
					return net.DefaultResolver.LookupNetIP(ctx, "ip", name)
				},
			})
		},
		"bundle": func() error {
			return bundlecontroller.Setup(ctx, s.manager, bundlecontroller.Deps{Client: s.manager.GetClient(), Store: s.bundles, Log: log})
		},
		"operation": func() error {
			return operationcontroller.Setup(ctx, s.manager, operationcontroller.Deps{
				Client: s.live, Engine: engine, Plans: s.blobs, Audit: s.audit, Log: log, Platform: platform, Systems: systems,
				Cluster: func(namespace, name string) step.ClusterReader { return access.Connection(namespace, name) },
				Bundle: func(ctx context.Context, version string) (*bundle.Manifest, string, error) {
					return bundlecontroller.Usable(ctx, s.live, s.bundles, version)
				},
			})
		},
		"cluster": func() error {
			return clustercontroller.Setup(ctx, s.manager, clustercontroller.Deps{Client: s.live, Access: access, Log: log, Redact: s.unprintable.Redact})
		},
		"project": func() error {
			return projectcontroller.Setup(ctx, s.manager, projectcontroller.Deps{Client: s.live, Log: log})
		},
		"backup": func() error {
			return backupcontroller.Setup(s.manager, backupcontroller.Deps{Client: s.live, Stores: places})
		},
		"backuplocation": func() error {
			return backuplocationcontroller.Setup(ctx, s.manager, backuplocationcontroller.Deps{Client: s.manager.GetClient(), Stores: places, Redact: s.unprintable.Redact})
		},
		"backupschedule": func() error {
			return backupschedulecontroller.Setup(s.manager, backupschedulecontroller.Deps{Client: s.live})
		},
		"grant": func() error { return grantcontroller.Setup(ctx, s.manager, grantcontroller.Deps{}) },
		"user": func() error {
			return usercontroller.Setup(ctx, s.manager, usercontroller.Deps{Live: s.live, Password: auth.NewAccounts(auth.AccountsConfig{Client: s.live}).PasswordState})
		},
	} {
		if err := setup(); err != nil {
			return fmt.Errorf("cannot set up the %s controller: %w", name, err)
		}
	}
	return nil
}

func platform(port *gateway.Port) (operationcontroller.Platform, error) {
	text, number, err := portNumber(port)
	if err != nil {
		return operationcontroller.Platform{}, err
	}
	return operationcontroller.Platform{Address: reach(text), Port: number, CA: string(port.CACert()), MachineID: machineID()}, nil
}

// locate finds a cluster's control plane in its spec.
func locate(c client.Reader) cluster.Locate {
	return func(ctx context.Context, namespace, name string) (cluster.Address, error) {
		var found v1alpha1.Cluster
		if err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &found); err != nil {
			return cluster.Address{}, err
		}
		keys := cluster.KeysName(name)
		return cluster.Address{
			Hosts: found.Spec.ControlPlane.Hosts, Port: found.Spec.Endpoint.Port,
			CACert: step.SecretRef{Name: keys, Key: kubeadm.CACert}, CAKey: step.SecretRef{Name: keys, Key: kubeadm.CAKey},
			EtcdCACert: step.SecretRef{Name: keys, Key: kubeadm.EtcdCert}, EtcdCAKey: step.SecretRef{Name: keys, Key: kubeadm.EtcdKey},
		}, nil
	}
}

// secrets reads secret values from slipway-system.
type secrets struct{ client client.Reader }

// Secret gives one key of a Secret.
func (s secrets) Secret(ctx context.Context, ref step.SecretRef) ([]byte, error) {
	var secret corev1.Secret
	if err := s.client.Get(ctx, client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: ref.Name}, &secret); err != nil {
		return nil, fmt.Errorf("cannot read secret %s: %w", ref.Name, err)
	}
	value, ok := secret.Data[ref.Key]
	if !ok {
		return nil, fmt.Errorf("cannot read secret %s: it has no key %s", ref.Name, ref.Key)
	}
	return value, nil
}

// blobs gives steps what bundles hold.
type blobs struct{ store *bundle.Store }

// Blob gives the content of a digest and its size.
func (b blobs) Blob(ctx context.Context, d string) (io.ReadSeekCloser, int64, error) {
	return b.store.Blob(ctx, digest.Digest(d))
}

// systems reads the supported operating systems from the catalog.
func systems() ([]stages.System, error) {
	var all []stages.System
	err := eachFile(catalog.FS, "os", func(name string, b []byte) error {
		var s stages.System
		if err := yaml.UnmarshalStrict(b, &s); err != nil {
			return fmt.Errorf("cannot read %s: %w", name, err)
		}
		all = append(all, s)
		return nil
	})
	return all, err
}

// crds reads the definitions of our kinds.
func crds() ([]*apiextensionsv1.CustomResourceDefinition, error) {
	var all []*apiextensionsv1.CustomResourceDefinition
	err := eachFile(crd.Files, ".", func(name string, b []byte) error {
		d := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.Unmarshal(b, d); err != nil {
			return fmt.Errorf("cannot read %s: %w", name, err)
		}
		all = append(all, d)
		return nil
	})
	return all, err
}

func eachFile(files fs.FS, dir string, each func(name string, b []byte) error) error {
	entries, err := fs.ReadDir(files, dir)
	if err != nil {
		return fmt.Errorf("cannot list %s: %w", dir, err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".yaml") {
			continue
		}
		name := strings.TrimPrefix(dir+"/"+e.Name(), "./")
		b, err := fs.ReadFile(files, name)
		if err != nil {
			return fmt.Errorf("cannot read %s: %w", name, err)
		}
		if err := each(name, b); err != nil {
			return err
		}
	}
	return nil
}
