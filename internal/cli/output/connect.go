package output

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
)

// Deps is what the commands are made from.
type Deps struct {
	// Streams are where commands read and write. Results go to Out, progress of work whose result is something else,
	// questions and warnings to ErrOut.
	Streams genericiooptions.IOStreams
	// Terminal says that a person sits at In and ErrOut; only then questions are asked.
	Terminal bool
	// Now is the clock for ages and elapsed times; time.Now when nil.
	Now func() time.Time
	// Connect gives the connection for the project that the user named, "" when none was. See Connect.
	Connect func(project string) (*Connection, error)
}

// Clock gives the time now.
func (d Deps) Clock() time.Time {
	if d.Now == nil {
		return time.Now()
	}
	return d.Now()
}

// Connection is an open way to one API server.
type Connection struct {
	// Client reads, writes and watches objects.
	Client client.WithWatch
	// REST reaches Slipway's own paths on the same server with the same login.
	REST rest.Interface
	// Project is the namespace that commands work in.
	Project string
}

// Connect gives what Deps.Connect wants: connections to the server that getter's flags and kubeconfig choose. The
// project is the one asked for, else that of --namespace or the kubeconfig, else "default".
func Connect(getter genericclioptions.RESTClientGetter) func(project string) (*Connection, error) {
	return func(project string) (*Connection, error) {
		config, err := getter.ToRESTConfig()
		if err != nil {
			return nil, fmt.Errorf("cannot find the Slipway server: %w", err)
		}
		if project == "" {
			if project, _, err = getter.ToRawKubeConfigLoader().Namespace(); err != nil {
				return nil, fmt.Errorf("cannot find the project: %w", err)
			}
		}
		kinds, err := Scheme()
		if err != nil {
			return nil, err
		}
		c, err := client.NewWithWatch(config, client.Options{Scheme: kinds})
		if err != nil {
			return nil, fmt.Errorf("cannot connect to %s: %w", config.Host, err)
		}
		raw, err := NewREST(config)
		if err != nil {
			return nil, err
		}
		return &Connection{Client: c, REST: raw, Project: project}, nil
	}
}

// NewREST gives the client of Slipway's own paths on the server of config.
func NewREST(config *rest.Config) (rest.Interface, error) {
	plain := rest.CopyConfig(config)
	plain.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	c, err := rest.UnversionedRESTClientFor(plain)
	if err != nil {
		return nil, fmt.Errorf("cannot connect to %s: %w", config.Host, err)
	}
	return c, nil
}

// Raw gives the body of an answer, and of a refusal the server's own words, which Result.Raw and Request.DoRaw lose.
func Raw(answer rest.Result) ([]byte, error) {
	if err := answer.Error(); err != nil {
		return nil, err
	}
	return answer.Raw()
}

// Scheme gives the kinds that commands use: Slipway's and Secrets.
func Scheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(s); err != nil {
		return nil, fmt.Errorf("cannot register the kinds: %w", err)
	}
	if err := corev1.AddToScheme(s); err != nil {
		return nil, fmt.Errorf("cannot register the kinds: %w", err)
	}
	return s, nil
}

// ProjectFlag adds --project to cmd and everything below it, and gives where its value will be.
func ProjectFlag(cmd *cobra.Command) *string {
	return cmd.PersistentFlags().StringP("project", "p", "", "project (namespace) to work in (default: that of --namespace or the kubeconfig, else default)")
}

// Suggest gives a command line for people to copy, with the project when it is not the default one.
func (c *Connection) Suggest(command string) string {
	if c.Project == "default" {
		return command
	}
	return command + " -p " + c.Project
}
