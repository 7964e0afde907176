// Copyright (C) 2026 The Lockstep Authors
//
// Licensed under the Apache License, Version 2.0 (the "License");
// you may not use this file except in compliance with the License.
// You may obtain a copy of the License at
//
// http://www.apache.org/licenses/LICENSE-2.0
//
// Unless required by applicable law or agreed to in writing, software
// distributed under the License is distributed on an "AS IS" BASIS,
// WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
// See the License for the specific language governing permissions and
// limitations under the License.

package io.lockstep.bridge.sidecar;

/** The calls of the bridge API. Metrics name them as the constants here, in lower case. */
public enum SidecarCall {
  COMMIT,
  LOOK_UP,
  CREATE_PROJECT,
  SET_HEAD,
  DELETE_PROJECT,
  HANDSHAKE("/v1/gerrit/hello"),
  STATUS("/v1/status"),
  FETCH_REFRESH_TASKS("/v1/refresh/tasks"),
  REPORT_REFRESH_TASKS("/v1/refresh/done"),
  SEND_EVENTS("/v1/events"),
  FETCH_EVENTS("/v1/events/next"),
  ACKNOWLEDGE_EVENTS("/v1/events/done");

  private final String path;

  /** A call on a project: its path has the project's name. */
  SidecarCall() {
    this("");
  }

  SidecarCall(String path) {
    this.path = path;
  }

  String path() {
    return path;
  }
}
