package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/pkg/volume/util"
)

// volumes are a pod's: directories that its containers mount. Contents of the API are written as
// the kubelet does, so that a change appears as a whole.
type volumes struct {
	worker *worker
	tokens map[string]*token
}

type token struct {
	text  string
	renew time.Time
}

func newVolumes(w *worker) *volumes { return &volumes{worker: w, tokens: map[string]*token{}} }

func (v *volumes) path(name string) string { return filepath.Join(v.worker.dir, "volumes", name) }

// fill brings every volume to what the API says now.
func (v *volumes) fill(ctx context.Context) error {
	for _, volume := range v.worker.latest().Spec.Volumes {
		if volume.HostPath != nil {
			continue
		}
		dir := v.path(volume.Name)
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return err
		}
		var sources []corev1.VolumeProjection
		mode := int32(0o644)
		switch {
		case volume.EmptyDir != nil:
			if err := os.Chmod(dir, 0o777); err != nil {
				return err
			}
			continue
		case volume.Secret != nil:
			s := volume.Secret
			set(&mode, s.DefaultMode)
			sources = []corev1.VolumeProjection{{Secret: &corev1.SecretProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: s.SecretName},
				Items:                s.Items, Optional: s.Optional,
			}}}
		case volume.ConfigMap != nil:
			s := volume.ConfigMap
			set(&mode, s.DefaultMode)
			sources = []corev1.VolumeProjection{{ConfigMap: &corev1.ConfigMapProjection{
				LocalObjectReference: s.LocalObjectReference, Items: s.Items, Optional: s.Optional,
			}}}
		case volume.DownwardAPI != nil:
			set(&mode, volume.DownwardAPI.DefaultMode)
			sources = []corev1.VolumeProjection{{DownwardAPI: &corev1.DownwardAPIProjection{
				Items: volume.DownwardAPI.Items,
			}}}
		case volume.Projected != nil:
			set(&mode, volume.Projected.DefaultMode)
			sources = volume.Projected.Sources
		default:
			return fmt.Errorf("volume %s: a kind that this cluster does not have", volume.Name)
		}
		files := map[string]util.FileProjection{}
		for _, source := range sources {
			if err := v.project(ctx, volume.Name, source, mode, files); err != nil {
				return fmt.Errorf("volume %s: %w", volume.Name, err)
			}
		}
		writer, err := util.NewAtomicWriter(dir, v.worker.name)
		if err != nil {
			return err
		}
		if err := writer.Write(files, nil); err != nil {
			return fmt.Errorf("volume %s: %w", volume.Name, err)
		}
	}
	return nil
}

// project adds the files of one source.
func (v *volumes) project(ctx context.Context, volume string, s corev1.VolumeProjection, mode int32, files map[string]util.FileProjection) error {
	w := v.worker
	put := func(path string, data []byte, own *int32) {
		m := mode
		set(&m, own)
		files[path] = util.FileProjection{Data: data, Mode: m}
	}
	pick := func(all map[string][]byte, items []corev1.KeyToPath, optional *bool) error {
		if len(items) == 0 {
			for key, data := range all {
				put(key, data, nil)
			}
		}
		for _, item := range items {
			data, found := all[item.Key]
			if err := missing(found, optional, item.Key); err != nil {
				return err
			}
			if found {
				put(item.Path, data, item.Mode)
			}
		}
		return nil
	}
	switch {
	case s.Secret != nil:
		object, err := w.agent.client.CoreV1().Secrets(w.namespace).Get(ctx, s.Secret.Name, metav1.GetOptions{})
		if err != nil {
			return unless(s.Secret.Optional, err)
		}
		return pick(object.Data, s.Secret.Items, s.Secret.Optional)
	case s.ConfigMap != nil:
		object, err := w.agent.client.CoreV1().ConfigMaps(w.namespace).Get(ctx, s.ConfigMap.Name, metav1.GetOptions{})
		if err != nil {
			return unless(s.ConfigMap.Optional, err)
		}
		all := map[string][]byte{}
		for key, value := range object.Data {
			all[key] = []byte(value)
		}
		for key, value := range object.BinaryData {
			all[key] = value
		}
		return pick(all, s.ConfigMap.Items, s.ConfigMap.Optional)
	case s.DownwardAPI != nil:
		for _, item := range s.DownwardAPI.Items {
			if item.FieldRef == nil {
				return fmt.Errorf("%s: only fields are known", item.Path)
			}
			value, err := w.field(item.FieldRef.FieldPath)
			if err != nil {
				return err
			}
			put(item.Path, []byte(value), item.Mode)
		}
	case s.ServiceAccountToken != nil:
		text, err := v.token(ctx, volume, s.ServiceAccountToken)
		if err != nil {
			return err
		}
		put(s.ServiceAccountToken.Path, []byte(text), nil)
	default:
		return fmt.Errorf("a source that this cluster does not have")
	}
	return nil
}

// token asks for a token bound to the pod, and for another when most of its time is over.
func (v *volumes) token(ctx context.Context, volume string, s *corev1.ServiceAccountTokenProjection) (string, error) {
	key := volume + "/" + s.Path
	if held := v.tokens[key]; held != nil && time.Now().Before(held.renew) {
		return held.text, nil
	}
	pod := v.worker.latest()
	request := &authv1.TokenRequest{Spec: authv1.TokenRequestSpec{
		ExpirationSeconds: s.ExpirationSeconds,
		BoundObjectRef: &authv1.BoundObjectReference{
			APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID,
		},
	}}
	if s.Audience != "" {
		request.Spec.Audiences = []string{s.Audience}
	}
	answer, err := v.worker.agent.client.CoreV1().ServiceAccounts(pod.Namespace).
		CreateToken(ctx, pod.Spec.ServiceAccountName, request, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	life := time.Until(answer.Status.ExpirationTimestamp.Time)
	v.tokens[key] = &token{answer.Status.Token, time.Now().Add(life * 8 / 10)}
	return answer.Status.Token, nil
}

// mounts are what a container mounts where.
func (v *volumes) mounts(c *corev1.Container) ([]mount, error) {
	var list []mount
	for _, m := range c.VolumeMounts {
		source := v.path(m.Name)
		for _, volume := range v.worker.latest().Spec.Volumes {
			if volume.Name == m.Name && volume.HostPath != nil {
				source = volume.HostPath.Path
			}
		}
		if m.SubPath != "" {
			real, err := filepath.EvalSymlinks(filepath.Join(source, m.SubPath))
			if err != nil {
				return nil, err
			}
			source = real
		}
		list = append(list, mount{source, m.MountPath, m.ReadOnly})
	}
	return list, nil
}
