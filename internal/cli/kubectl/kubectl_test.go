package kubectl

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

func kubeconfig(t *testing.T, server string) string {
	t.Helper()
	config := clientcmdapi.NewConfig()
	config.Clusters["c"] = &clientcmdapi.Cluster{Server: server}
	config.Contexts["c"] = &clientcmdapi.Context{Cluster: "c"}
	config.CurrentContext = "c"
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWhichServer(t *testing.T) {
	home := t.TempDir()
	if err := os.MkdirAll(filepath.Join(home, ".kube"), 0o700); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(kubeconfig(t, "https://other-cluster.test"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, ".kube", "config"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", home)
	flag, environment, fallback := kubeconfig(t, "https://flag.test"), kubeconfig(t, "https://env.test"), kubeconfig(t, "https://default.test")
	cases := map[string]struct {
		reason      string
		flag, env   string
		defaultPath func() (string, error)
		want        string
		wantErr     string
	}{
		"Flag":      {reason: "--kubeconfig wins", flag: flag, env: environment, defaultPath: func() (string, error) { return fallback, nil }, want: "https://flag.test"},
		"Env":       {reason: "then KUBECONFIG", env: environment, defaultPath: func() (string, error) { return fallback, nil }, want: "https://env.test"},
		"Default":   {reason: "then our own default, never ~/.kube/config", defaultPath: func() (string, error) { return fallback, nil }, want: "https://default.test"},
		"NoDefault": {reason: "without a default it says what to give", defaultPath: func() (string, error) { return "", nil }, wantErr: "log in with `slipway login URL`, or give --kubeconfig"},
		"Fails":     {reason: "the default's own error is shown", defaultPath: func() (string, error) { return "", errors.New("log in first") }, wantErr: "log in first"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Setenv("KUBECONFIG", tc.env)
			flags := NewFlags()
			flags.KubeConfig = &tc.flag
			config, err := Getter(flags, tc.defaultPath).ToRESTConfig()
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Fatalf("%s: error = %v", tc.reason, err)
				}
				_, _, err = Getter(flags, tc.defaultPath).ToRawKubeConfigLoader().Namespace()
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Fatalf("%s: loader's error = %v", tc.reason, err)
				}
				return
			}
			if err != nil || config.Host != tc.want {
				t.Errorf("%s: %v, %v", tc.reason, config, err)
			}
		})
	}
}
