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

package io.lockstep.bridge.standby;

import com.google.inject.AbstractModule;
import com.google.inject.matcher.Matcher;
import java.lang.reflect.Method;
import java.util.Set;
import org.aopalliance.intercept.MethodInterceptor;

/** Intercepts the methods of Gerrit that write by themselves, and those that report errors. */
public final class StandbyModule extends AbstractModule {
  private static final Set<String> WEB = Set.of("com.google.gerrit.httpd.RequestContextFilter");
  private static final Set<String> SSH = Set.of("com.google.gerrit.sshd.CommandFactoryProvider");

  @Override
  protected void configure() {
    intercept(PeriodicJobs.CLASSES, PeriodicJobs.METHODS, new PeriodicJobs());
    // The first filter of all: it also sees the errors of filters that sign users in.
    intercept(WEB, Set.of("doFilter"), new RefusalPage());
    intercept(SSH, Set.of("get"), new RefusalOverSsh());
  }

  private void intercept(Set<String> classes, Set<String> methods, MethodInterceptor interceptor) {
    requestInjection(interceptor);
    Matcher<Class<?>> named = one -> classes.contains(one.getName());
    Matcher<Method> called = one -> methods.contains(one.getName()) && !one.isSynthetic();
    bindInterceptor(named, called, interceptor);
  }
}
